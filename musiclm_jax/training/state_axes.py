# SPDX-License-Identifier: Apache-2.0
"""The logical axes of every leaf of a train state, optimizer included.

Variables carry theirs in Flax's boxes. An optimizer is built from bare
parameters, so the axes of its leaves are found by their paths: a moment of
'encoder/kernel' lies at '.../mu/encoder/kernel', whatever wraps the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from flax import linen as nn
from flax.core import meta
from jax.sharding import PartitionSpec

from musiclm_jax.training.state import TrainState

Path = tuple[str, ...]


def logical_axes(boxed: TrainState) -> TrainState:
  """A `PartitionSpec` of logical names for each leaf of an abstract state."""
  whole = PartitionSpec()
  return boxed.replace(
    step=whole,
    num_skipped=whole,
    num_skipped_in_a_row=whole,
    seed=whole,
    params=nn.get_partition_spec(boxed.params),
    collections=nn.get_partition_spec(boxed.collections),
    averaged=nn.get_partition_spec(boxed.averaged),
    opt_state=_optimizer_axes(boxed.opt_state, boxed.params),
  )


def _optimizer_axes(opt_state: Any, boxed_params: Any) -> Any:
  shapes = _by_path(jax.tree.map(lambda p: p.shape, meta.unbox(boxed_params)))
  specs = _by_path(nn.get_partition_spec(boxed_params))

  def axes(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> PartitionSpec:
    param = _param_of(path, specs)
    names = () if param is None else tuple(specs[param])
    kept = _dimensions_kept(leaf.shape, () if param is None else shapes[param])
    if kept is None:
      logging.warning(
        'The optimizer state %s of shape %s matches no parameter; it is kept'
        ' whole on every device.',
        jax.tree_util.keystr(path),
        leaf.shape,
      )
      return PartitionSpec()
    return PartitionSpec(*(names[i] for i in kept if i < len(names)))

  return jax.tree_util.tree_map_with_path(axes, opt_state)


def _dimensions_kept(
  shape: tuple[int, ...], param_shape: tuple[int, ...]
) -> tuple[int, ...] | None:
  """Which dimensions of a parameter a leaf of its optimizer state has.

  All, or all but one: Adafactor keeps the rows and the columns of a matrix.
  None of them for a scalar or a placeholder; `None` if the shapes are
  unrelated.
  """
  everything = tuple(range(len(param_shape)))
  for dropped in (None, *everything):
    kept = tuple(i for i in everything if i != dropped)
    if tuple(param_shape[i] for i in kept) == shape:
      return kept
  return () if shape in ((), (1,)) else None


def _param_of(path: tuple[Any, ...], params: Mapping[Path, Any]) -> Path | None:
  """The parameter whose path is the longest end of the names in `path`."""
  names = _names(path)
  ends = (names[start:] for start in range(len(names)))
  return next((end for end in ends if end in params), None)


def _by_path(tree: Any) -> dict[Path, Any]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    tree, is_leaf=lambda node: isinstance(node, tuple | PartitionSpec)
  )
  return {_names(path): leaf for path, leaf in leaves}


def _names(path: tuple[Any, ...]) -> Path:
  """The dictionary keys of a path, without fields and indices of optax."""
  return tuple(
    key.key for key in path if isinstance(key, jax.tree_util.DictKey)
  )
