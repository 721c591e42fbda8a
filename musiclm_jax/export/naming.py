# SPDX-License-Identifier: Apache-2.0
"""Weights by their Linen path, and by the name and shape that PyTorch expects.

A rule per kind of bundle says what a path is called and in which order its axes
are stored. It only reorders and reshapes, so with the paths, shapes and types
at hand (`describe`) it goes back bit for bit.

Shapes: Linen's kernels of convolutions are [*taps, in, out], PyTorch's
[out, in, *taps], or [in, out, *taps] if transposed. Kernels of linear maps are
[*features, *inputs] here, and [features, inputs] there.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes  # noqa: F401  Teaches NumPy the name 'bfloat16'.
import numpy as np

from musiclm_jax.checkpoints import fingerprint as fingerprints

# From the shape of a leaf: the order its axes take, and the shape they then
# have, with one size of -1 for what is left.
_Layout = Callable[[tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """How the weights of one kind of bundle are called.

  Attributes:
    dropped: Parts of a path that say nothing, such as names of collections.
    lists: Parts `word_3` that become `<list>.3`, by their word.
    leaves: Last parts that are called otherwise.
    layouts: A pattern of whole paths and a layout; the first that fits counts,
      before those that all kinds share.
  """

  dropped: frozenset[str] = frozenset({'params'})
  lists: Mapping[str, str] = dataclasses.field(default_factory=dict)
  leaves: Mapping[str, str] = dataclasses.field(default_factory=dict)
  layouts: tuple[tuple[str, _Layout], ...] = ()

  def name(self, path: str) -> str:
    """What the weight, or the module, at `path` is called."""
    *parents, leaf = path.split(fingerprints.SEPARATOR)
    parts = [self._part(part) for part in parents if part not in self.dropped]
    leaf = (_LEAVES | dict(self.leaves)).get(leaf) or self._part(leaf)
    return '.'.join([*parts, leaf])

  def layout(self, path: str, shape: tuple[int, ...]) -> _Placed:
    """How the leaf at `path` lies in PyTorch."""
    for pattern, layout in (*self.layouts, *_LAYOUTS):
      if re.fullmatch(pattern, path):
        axes, there = layout(shape)
        # What -1 stands for.
        rest = math.prod(shape) // max(1, math.prod(s for s in there if s > 0))
        there = tuple(rest if size == -1 else size for size in there)
        return _Placed(axes=axes, shape=there)
    return _Placed(axes=tuple(range(len(shape))), shape=shape)

  def _part(self, part: str) -> str:
    word, _, number = part.rpartition('_')
    if number.isdecimal() and word in self.lists:
      return f'{self.lists[word]}.{number}'
    return part


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Placed:
  """The order that axes take, and the shape they then have."""

  axes: tuple[int, ...]
  shape: tuple[int, ...]

  def there(self, leaf: np.ndarray) -> np.ndarray:
    moved = np.transpose(leaf, self.axes).reshape(self.shape)
    return np.asarray(moved, order='C')

  def back(self, leaf: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    moved = leaf.reshape([shape[axis] for axis in self.axes])
    return np.asarray(np.transpose(moved, np.argsort(self.axes)), order='C')


def _convolution(shape: tuple[int, ...]) -> Any:
  taps = len(shape) - 2
  return (taps + 1, taps, *range(taps)), (shape[-1], shape[-2], *shape[:taps])


def _transposed(shape: tuple[int, ...]) -> Any:
  taps = len(shape) - 2
  return (taps, taps + 1, *range(taps)), (shape[-2], shape[-1], *shape[:taps])


def _one_feature(shape: tuple[int, ...]) -> Any:
  return tuple(range(len(shape))), (shape[0], -1)


def _one_input(shape: tuple[int, ...]) -> Any:
  return tuple(range(len(shape))), (-1, shape[-1])


def _flat(shape: tuple[int, ...]) -> Any:
  return tuple(range(len(shape))), (-1,)


_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'table': 'weight'}

_LAYOUTS: tuple[tuple[str, _Layout], ...] = (
  (r'.*/weight(_v)?', _convolution),
  (r'.*/weight_g', lambda shape: ((0,), (-1, 1, 1))),
  (r'.*/depthwise/kernel', lambda shape: ((1, 0), (-1, 1, shape[0]))),
  (r'.*/(out|project)/kernel', _one_feature),
  (r'.*/kernel', _one_input),
  (r'.*/bias', _flat),
)

_BLOCKS = {'block': 'blocks', 'layer': 'layers'}

# By the kind of the bundle.
RULES: dict[str, Rule] = {
  'codec': Rule(
    dropped=frozenset({'params', 'codebooks'}),
    lists=_BLOCKS | {'dilated': 'dilated', 'mix': 'mix'},
    layouts=(
      (r'.*/up/weight(_v)?', _transposed),
      (r'.*/up/weight_g', lambda shape: ((0,), (1, -1, 1))),
    ),
  ),
  'semantic': Rule(
    lists=_BLOCKS | {'convolution': 'convolutions'},
    leaves={'centroids': 'clusters.centroids'},
  ),
  'conditioner': Rule(
    dropped=frozenset({'params', 'codebooks', 'towers'}),
    lists=_BLOCKS,
    leaves={
      name: f'{name}.weight' for name in ('words', 'positions', 'segments')
    },
  ),
  'stage': Rule(lists=_BLOCKS, leaves={'logit_table': 'logits.weight'}),
}


def rule_of(kind: str) -> Rule:
  """The rule of a kind of bundle."""
  if kind not in RULES:
    raise ValueError(
      f'A bundle of kind {kind!r} has no counterpart in PyTorch; export one of'
      f' kind {", ".join(RULES)}.'
    )
  return RULES[kind]


def to_state_dict(
  weights: Mapping[str, Any], *, kind: str
) -> dict[str, np.ndarray]:
  """The weights of a bundle as PyTorch's modules call and store them."""
  rule = rule_of(kind)
  state: dict[str, np.ndarray] = {}
  for path, leaf in separate(fingerprints.flatten(weights)).items():
    name = rule.name(path)
    if name in state:
      raise ValueError(f'Two weights of this {kind!r} are called {name!r}.')
    state[name] = rule.layout(path, leaf.shape).there(leaf)
  return state


def describe(weights: Mapping[str, Any]) -> dict[str, Any]:
  """Of each path shape, type and hash, as JSON: the way back."""
  return {
    path: {
      'shape': list(leaf.shape),
      'dtype': leaf.dtype.name,
      'sha256': fingerprints.leaf_hash(leaf),
    }
    for path, leaf in fingerprints.flatten(weights).items()
  }


def from_state_dict(
  state: Mapping[str, np.ndarray], *, kind: str, described: Mapping[str, Any]
) -> dict[str, Any]:
  """The inverse of `to_state_dict`.

  Args:
    state: By PyTorch's names.
    kind: Of the bundle.
    described: What `describe` said of the bundle's weights.

  Returns:
    The weights as nested dicts.

  Raises:
    ValueError: Names, shapes or types are not those of the bundle.
  """
  rule = rule_of(kind)
  parts = {
    path: _separate_paths(path, fields['shape'])
    for path, fields in described.items()
  }
  names = {path: rule.name(path) for found in parts.values() for path in found}
  missing = sorted(set(names.values()) - set(state))
  unknown = sorted(set(state) - set(names.values()))
  if missing or unknown:
    raise ValueError(
      f'A state dict of this {kind!r} lacks {_some(missing)} and has'
      f' {_some(unknown)}, which it does not know; save all that'
      ' `state_dict()` gives and nothing else.'
    )
  leaves = {}
  for path, fields in described.items():
    is_stacked = parts[path] != [path]
    shape = tuple(fields['shape'][1:] if is_stacked else fields['shape'])
    found = []
    for part in parts[path]:
      leaf, placed = state[names[part]], rule.layout(part, shape)
      wanted = np.dtype(fields['dtype']), placed.shape
      if (leaf.dtype, leaf.shape) != wanted:
        raise ValueError(
          f'{names[part]} is {leaf.dtype} {list(leaf.shape)}, but {wanted[0]}'
          f' {list(wanted[1])} is wanted; save the model in the type and with'
          ' the sizes that it was exported in.'
        )
      found.append(placed.back(leaf, shape=shape))
    leaves[path] = np.stack(found) if is_stacked else found[0]
  return fingerprints.unflatten(leaves)


def separate(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Leaves by their paths, those of scanned layers one a layer."""
  apart = {}
  for path, leaf in leaves.items():
    paths = _separate_paths(path, leaf.shape)
    apart |= {path: leaf} if paths == [path] else dict(zip(paths, leaf))
  return apart


def _separate_paths(path: str, shape: Sequence[int]) -> list[str]:
  """Of the layers of a stacked leaf; else the path alone."""
  stacked = re.fullmatch(r'(.*/)layers/(.*)', path)
  if stacked is None:
    return [path]
  before, after = stacked.groups()
  return [f'{before}layer_{index}/{after}' for index in range(shape[0])]


def _some(names: list[str]) -> str:
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return (', '.join(names[:3]) or 'nothing') + more
