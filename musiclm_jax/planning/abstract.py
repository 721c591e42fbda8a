# SPDX-License-Identifier: Apache-2.0
"""Batches, states and meshes as shapes alone: nothing is allocated.

Shapes: a batch is the global one, [rows, ...].
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from musiclm_jax.batches import BatchSource
from musiclm_jax.training.partitioning import MESH_AXES, Partitioner
from musiclm_jax.training.state import Trainable, TrainState

AbstractBatch = dict[str, jax.ShapeDtypeStruct]


def batch_form(source: BatchSource) -> AbstractBatch:
  """The global batch of a source, of which a single row is read."""
  one_row = source.batches(0, process_index=0, process_count=source.batch_size)
  return with_rows(next(iter(one_row)), num_rows=source.batch_size)


def with_rows(batch: Any, *, num_rows: int) -> AbstractBatch:
  """The form of `batch` with another number of rows."""
  return {
    name: jax.ShapeDtypeStruct((num_rows, *array.shape[1:]), array.dtype)
    for name, array in batch.items()
  }


def boxed_state(training: Trainable, *, batch: AbstractBatch) -> TrainState:
  """The first state, boxed with logical axes."""
  return jax.eval_shape(functools.partial(training.init, 0), batch)


def with_fields(config: Any, **values: Any) -> Any:
  """`config` with every field of these names in it, however deep, set so."""
  if not dataclasses.is_dataclass(config) or isinstance(config, type):
    return config
  changes = {}
  for field in dataclasses.fields(config):
    old = getattr(config, field.name)
    if field.name in values:
      new = values[field.name]
    else:
      new = with_fields(old, **values)
    if new is not old:
      changes[field.name] = new
  return dataclasses.replace(config, **changes) if changes else config


def with_remat(config: Any, *, remat: bool) -> Any:
  """Rematerialized in all its parts, or in none."""
  return with_fields(config, remat=remat)


def has_remat(config: Any) -> bool:
  """Whether any part of `config` is rematerialized."""
  return with_remat(config, remat=False) != config


def on_devices(partitioner: Partitioner, *, num_devices: int) -> Partitioner:
  """The partitioner over as many devices that are not here.

  Raises:
    ValueError: They do not make up its mesh.
  """
  fixed = partitioner.fsdp * partitioner.tensor
  data = num_devices // fixed if partitioner.data == -1 else partitioner.data
  if data * fixed != num_devices:
    raise ValueError(
      f'A mesh of data {partitioner.data} × fsdp {partitioner.fsdp} × tensor'
      f' {partitioner.tensor} does not make up {num_devices} devices; let'
      ' fsdp × tensor divide them, and data be -1.'
    )
  mesh = jax.sharding.AbstractMesh(
    (data, partitioner.fsdp, partitioner.tensor), MESH_AXES
  )
  return partitioner.over(mesh)


def local_bytes(abstract: Any, shardings: Any) -> int:
  """Bytes of one device's shards."""
  return sum(
    int(np.prod(sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf, sharding in zip(
      jax.tree.leaves(abstract), jax.tree.leaves(shardings)
    )
  )


def num_bytes(abstract: Any) -> int:
  """Of all arrays together."""
  return sum(
    leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)
  )
