# SPDX-License-Identifier: Apache-2.0
"""Checksums of sharded arrays, shard by shard, on the hosts that hold them.

The sum over all 32-bit words of word × (2 × index + 1), modulo 2**32. An odd
factor has an inverse, so no change of a single word goes unseen; and the sum is
over the global array, whatever the mesh and the number of processes, which a
hash of the bytes of each shard is not. In NumPy, because a save that compiled
one program for each shape would stall the first one for seconds. Ours.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import UInt32


def of_leaves(tree: Any) -> dict[str, int]:
  """The checksum of each leaf by its path: 'params/encoder/kernel'."""
  paths = [path for path, _ in leaves(tree)]
  sums = np.array([_sum_here(leaf) for _, leaf in leaves(tree)], np.uint32)
  if jax.process_count() > 1:
    sums = multihost_utils.process_allgather(sums).sum(axis=0, dtype=np.uint32)
  return dict(zip(paths, sums.tolist()))


def forms(tree: Any) -> dict[str, str]:
  """Type and shape of each leaf by its path: 'float32[3, 5]'."""
  return {
    path: f'{leaf.dtype}{list(leaf.shape)}' for path, leaf in leaves(tree)
  }


def leaves(tree: Any) -> list[tuple[str, Any]]:
  """(path, leaf) pairs; a path names fields, keys and indices alike."""
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _sum_here(array: jax.Array) -> int:
  """The part of the sum that this process is to add."""
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if array.is_fully_addressable and jax.process_index() > 0:
    return 0  # Each process has all of it; the first one counts it.
  sums = [
    _sum_of_shard(np.asarray(shard.data), shard.index, array.shape)
    for shard in array.addressable_shards
    if shard.replica_id == 0
  ]
  return sum(sums) % 2**32


def _sum_of_shard(
  shard: np.ndarray, place: tuple[slice, ...], shape: tuple[int, ...]
) -> int:
  """Sums one shard, row by row, of an array of `shape`."""
  words = _words(shard)  # [rows, words]
  # The first word of each row, within the whole array.
  strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
  first = np.zeros((1,) * max(len(shape) - 1, 0), np.uint64)
  for axis, part in enumerate(place[:-1]):
    index = np.arange(*part.indices(shape[axis]), dtype=np.uint64)
    along = [1] * (len(shape) - 1)
    along[axis] = index.size
    first = first + index.reshape(along) * np.uint64(strides[axis])
  if place:
    first = first + np.uint64(place[-1].indices(shape[-1])[0])
  words_each = words.size // max(shard.size, 1)
  first = (first.reshape(-1) * np.uint64(words_each)).astype(np.uint32)
  # Σ word × (2 × (first + i) + 1) = 2 × first × Σ word + Σ word × (2 × i + 1),
  # so the words are read twice and no array of their size is made.
  odd = 2 * np.arange(words.shape[1], dtype=np.uint32) + np.uint32(1)
  row_sums = words.sum(axis=1, dtype=np.uint32)
  total = (2 * first * row_sums + words @ odd).sum(dtype=np.uint32)
  return int(total)


def _words(shard: np.ndarray) -> UInt32[np.ndarray, 'rows words']:
  """The bits of a shard as 32-bit words, one row for its last axis."""
  rows = shard.reshape(-1, shard.shape[-1] if shard.ndim else 1)
  rows = np.ascontiguousarray(rows)
  size = rows.dtype.itemsize
  if size >= 4:
    return rows.view(np.uint32)
  return rows.view(f'uint{8 * size}').astype(np.uint32)
