# SPDX-License-Identifier: Apache-2.0
"""Where arrays live: logical axes to mesh axes, put on from outside.

A mesh has three axes: 'data' splits the batch, 'fsdp' splits the batch and the
parameters, 'tensor' splits what a layer computes. Rules map every logical axis
of `musiclm_jax.axes` to mesh axes, so a new topology is a few numbers.

The mesh is entered by `jax.set_mesh`. Under `with mesh:` Flax's logical
constraints silently do nothing, and activations are then replicated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import linen as nn
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from musiclm_jax import axes
from musiclm_jax.array_types import Batch
from musiclm_jax.metrics import Evaluation
from musiclm_jax.training import state_axes
from musiclm_jax.training.state import Trainable, TrainState

MESH_AXES = ('data', 'fsdp', 'tensor')
BATCH_MESH_AXES = ('data', 'fsdp')

Rule = tuple[str, str | tuple[str, ...] | None]

# For every axis a parameter or an activation may carry. A product is split
# where its wide side is; what crosses layers (embed, channels in) is split over
# fsdp, and gathered when it is used.
STANDARD_RULES: tuple[Rule, ...] = (
  (axes.BATCH, BATCH_MESH_AXES),
  (axes.SAMPLES, None),
  (axes.FRAMES, None),
  (axes.LENGTH, None),
  (axes.MELS, None),
  (axes.MLP, 'tensor'),
  (axes.HEADS, 'tensor'),
  (axes.VOCAB, 'tensor'),
  (axes.CHANNELS_OUT, 'tensor'),
  (axes.EMBED, 'fsdp'),
  (axes.CHANNELS_IN, 'fsdp'),
  (axes.KV, None),
  (axes.KERNEL, None),
  (axes.LEVELS, None),
  (axes.CODEBOOK, None),
  (axes.LAYERS, None),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partitioner:
  """A mesh and the rules by which arrays are laid over it.

  Attributes:
    data: Devices along 'data'; -1 for all that the other two leave.
    fsdp: Devices along 'fsdp'.
    tensor: Devices along 'tensor'.
    rules: (logical axis, mesh axes or None); each parameter axis is named.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  rules: tuple[Rule, ...] = STANDARD_RULES

  def __post_init__(self):
    named = {logical for logical, _ in self.rules}
    missing = [a for a in (axes.BATCH, *axes.PARAMETER_AXES) if a not in named]
    if missing:
      raise ValueError(
        f'The sharding rules do not name the axes {missing}; map each to a mesh'
        f' axis of {MESH_AXES}, or to None to keep it whole.'
      )
    for logical, target in self.rules:
      targets = (target,) if isinstance(target, str) else target or ()
      if not set(targets) <= set(MESH_AXES):
        raise ValueError(
          f'The rule of {logical!r} says {target!r}; mesh axes are {MESH_AXES}.'
        )

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    """The mesh, over the first devices that it needs."""
    available = jax.device_count()
    data = self.data
    if data == -1:
      data = max(available // (self.fsdp * self.tensor), 1)
    shape = (data, self.fsdp, self.tensor)
    wanted = math.prod(shape)
    several = jax.process_count() > 1
    if wanted > available or (several and wanted != available):
      raise ValueError(
        f'A mesh of {dict(zip(MESH_AXES, shape))} takes {wanted} devices, and'
        f' there are {available}; change data, fsdp or tensor (data=-1 takes'
        ' what the others leave).'
      )
    if wanted < available:
      logging.warning('The mesh uses %d of %d devices.', wanted, available)
    devices = mesh_utils.create_device_mesh(
      shape, jax.devices()[:wanted], allow_split_physical_axes=True
    )
    return jax.sharding.Mesh(
      devices, MESH_AXES, axis_types=(AxisType.Auto,) * len(shape)
    )

  def over(
    self, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
  ) -> Partitioner:
    """The same rules over a mesh of devices that are not of this process."""
    other = dataclasses.replace(self)
    other.__dict__['mesh'] = mesh  # Where the cached property keeps its own.
    return other

  @contextlib.contextmanager
  def entered(self) -> Iterator[None]:
    """The context in which everything is traced."""
    with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.rules):
      yield

  def batch_sharding(self, batch_size: int) -> NamedSharding:
    """Rows over 'data' and 'fsdp'; other axes whole."""
    spec = nn.logical_to_mesh_axes((axes.BATCH,), self.rules)
    parts = self._num_parts(spec[0])
    if batch_size % parts:
      raise ValueError(
        f'A batch of {batch_size} does not divide over the {parts} devices that'
        f' split it; choose a multiple of {parts}.'
      )
    return NamedSharding(self.mesh, spec)

  def process_rows(self, batch_size: int) -> tuple[int, int]:
    """(i, n): this process reads the i-th of n equal runs of a batch's rows.

    n is the number of processes, or less where the tensor axis spans several:
    these read the same rows.
    """
    sharding = self.batch_sharding(batch_size)
    rows = {}  # Of each process, the starts of its shards.
    for device, index in sharding.devices_indices_map((batch_size,)).items():
      start = index[0].start or 0
      rows.setdefault(device.process_index, set()).add(start)
    groups = sorted({tuple(sorted(starts)) for starts in rows.values()})
    equal = len({len(starts) for starts in groups}) == 1
    if not equal or len(set().union(*groups)) != sum(map(len, groups)):
      raise ValueError(
        f'Under the mesh {dict(self.mesh.shape)} the rows of two processes'
        ' overlap in part; let data × fsdp be a multiple of the number of'
        ' processes, or divide it.'
      )
    mine = tuple(sorted(rows[jax.process_index()]))
    return groups.index(mine), len(groups)

  def place_batch(
    self, rows: Mapping[str, np.ndarray], *, batch_size: int
  ) -> dict[str, jax.Array]:
    """The global batch on the devices, from the rows of this process."""
    sharding = self.batch_sharding(batch_size)
    return {
      name: jax.make_array_from_process_local_data(
        sharding, array, (batch_size, *array.shape[1:])
      )
      for name, array in rows.items()
    }

  def abstract_state(
    self, training: Trainable, *, seed: int, batch: Batch
  ) -> TrainState:
    """The state as shapes with shardings; nothing is computed."""
    with self.entered():
      boxed = jax.eval_shape(functools.partial(training.init, seed), batch)
    return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      meta.unbox(boxed),
      self.state_shardings(boxed),
    )

  def first_state(
    self, training: Trainable, *, seed: int, batch: Batch
  ) -> TrainState:
    """The state of a run from scratch, made in place on every device."""
    abstract = self.abstract_state(training, seed=seed, batch=batch)

    def init(batch: Batch) -> TrainState:
      return meta.unbox(training.init(seed, batch))

    with self.entered():
      return jax.jit(init, out_shardings=shardings_of(abstract))(batch)

  def state_shardings(self, boxed: TrainState) -> TrainState:
    """A sharding for each leaf of an abstract state with boxed variables."""
    logical = state_axes.logical_axes(boxed)
    return jax.tree.map(self._sharding, meta.unbox(boxed), logical)

  def partition_step(
    self, training: Trainable, abstract_state: TrainState
  ) -> InMesh:
    """The jitted step: shardings fixed, the old state's memory given up."""
    shardings = shardings_of(abstract_state)
    jitted = jax.jit(
      training.train_step,
      in_shardings=(shardings, None),
      out_shardings=(shardings, self.replicated),
      donate_argnums=0,
    )
    return InMesh(jitted, self.entered)

  def partition_evaluation(
    self, training: Trainable, *, num_waveforms: int
  ) -> InMesh:
    """The jitted evaluation, with the first waveforms, whole on every host."""

    def evaluate(state: TrainState, batch: Batch) -> Evaluation:
      evaluation = training.evaluate(state, batch)
      return evaluation.replace(
        waveforms=jax.tree.map(
          lambda waveform: waveform[:num_waveforms], evaluation.waveforms
        )
      )

    jitted = jax.jit(evaluate, out_shardings=self.replicated)
    return InMesh(jitted, self.entered)

  @property
  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec())

  def _sharding(
    self, leaf: jax.ShapeDtypeStruct, logical: PartitionSpec
  ) -> NamedSharding:
    """By the rules; a dimension that the mesh does not divide stays whole."""
    named = {logical_axis for logical_axis, _ in self.rules}
    unknown = [name for name in logical if name and name not in named]
    if unknown:
      raise ValueError(
        f'A variable of shape {leaf.shape} has the axes {tuple(logical)}, and'
        f' the sharding rules do not name {unknown}; add a rule for each.'
      )
    targets = nn.logical_to_mesh_axes(tuple(logical), self.rules)
    return NamedSharding(
      self.mesh,
      PartitionSpec(
        *(
          target if size % self._num_parts(target) == 0 else None
          for size, target in zip(leaf.shape, targets)
        )
      ),
    )

  def _num_parts(self, target: str | tuple[str, ...] | None) -> int:
    mesh_axes = (target,) if isinstance(target, str) else target or ()
    return math.prod(self.mesh.shape[axis] for axis in mesh_axes)


class InMesh:
  """A jitted function that is traced and run inside its mesh."""

  def __init__(
    self,
    jitted: Any,
    entered: Callable[[], contextlib.AbstractContextManager[None]],
  ):
    self._jitted = jitted
    self._entered = entered

  def __call__(self, *arguments: Any) -> Any:
    with self._entered():
      return self._jitted(*arguments)

  def lower(self, *arguments: Any) -> jax.stages.Lowered:
    with self._entered():
      return self._jitted.lower(*arguments)


def shardings_of(abstract: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)
