# SPDX-License-Identifier: Apache-2.0
"""Fewer bytes on disk: parameters stored as float16 or int8, read as float32.

int8 is symmetric and per channel: each vector along the last axis of a matrix,
of which kernels are stored outputs first, has a scale of its own, w = s q with
s = max |w| / 127. Codebooks, centroids and statistics, which lie outside
'params', are kept as they are, since they decide which code a sound has.

Weights are flat, by path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from musiclm_jax.checkpoints import fingerprint as fingerprints

STORAGES = ('float16', 'int8')

_SCALE = '.scale'
# A scale takes four bytes: of shorter vectors it would weigh too much.
_SHORTEST_CHANNEL = 16

Weights = Mapping[str, np.ndarray]


def encode(weights: Weights, *, storage: str | None) -> dict[str, np.ndarray]:
  """What is written to disk.

  Args:
    weights: As they are computed with.
    storage: One of `STORAGES`; None for the weights as they are.

  Raises:
    ValueError: It is none of these, or a value does not fit.
  """
  if storage is None:
    return dict(weights)
  if storage not in STORAGES:
    raise ValueError(
      f'Weights cannot be stored as {storage!r}; choose one of {STORAGES}.'
    )
  stored = {}
  for path, leaf in weights.items():
    if not _is_parameter(path, leaf):
      stored[path] = leaf
      continue
    require_finite(path, leaf)
    if storage == 'float16':
      stored[path] = _to_float16(path, leaf)
    elif leaf.ndim < 2 or leaf.shape[-1] < _SHORTEST_CHANNEL:
      stored[path] = leaf
    else:
      stored[path], stored[path + _SCALE] = quantize(leaf)
  return stored


def decode(stored: Weights) -> dict[str, np.ndarray]:
  """The weights that `encode` was given, as near as they were stored."""
  weights = {}
  for path, leaf in stored.items():
    scaled = stored.get(path.removesuffix(_SCALE))
    if path.endswith(_SCALE) and getattr(scaled, 'dtype', None) == np.int8:
      continue
    if leaf.dtype == np.int8 and path + _SCALE in stored:
      weights[path] = leaf.astype(np.float32) * stored[path + _SCALE]
    elif leaf.dtype == np.float16:
      weights[path] = leaf.astype(np.float32)
    else:
      weights[path] = leaf
  return weights


def quantize(leaf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """int8 values, and the float32 scale of each vector along the last axis."""
  scale = np.max(np.abs(leaf), axis=-1, keepdims=True) / np.float32(127)
  # What has no scale that float32 holds exactly becomes zeros.
  scale = np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1))
  return np.rint(leaf / scale).astype(np.int8), scale.astype(np.float32)


def relative_error(weights: Weights, other: Weights) -> float:
  """Root mean square of the parameters' difference, over that of themselves."""
  error = power = 0.0
  for path, leaf in weights.items():
    if _is_parameter(path, leaf):
      wide = leaf.astype(np.float64)
      error += float(np.sum(np.square(other[path] - wide)))
      power += float(np.sum(np.square(wide)))
  return math.sqrt(error / power) if power else 0.0


def require_finite(path: str, leaf: np.ndarray) -> None:
  """Raises unless all values are numbers; int8 would make zeros of the others."""
  if num_wrong := np.count_nonzero(~np.isfinite(leaf)):
    raise ValueError(
      f'{path} has {num_wrong} values of {leaf.size} that are NaN or infinite;'
      ' publish the model from an earlier checkpoint.'
    )


def _is_parameter(path: str, leaf: np.ndarray) -> bool:
  return leaf.dtype == np.float32 and 'params' in path.split(
    fingerprints.SEPARATOR
  )


def _to_float16(path: str, leaf: np.ndarray) -> np.ndarray:
  with np.errstate(over='ignore'):
    small = leaf.astype(np.float16)
  if not np.isfinite(small).all():
    raise ValueError(
      f'{path} has values up to {np.abs(leaf).max():g}, beyond the 65504 of'
      ' float16; store the weights as int8, or as they are.'
    )
  return small
