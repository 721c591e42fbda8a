# SPDX-License-Identifier: Apache-2.0
"""Checksums of sharded arrays, taken where the arrays are.

The sum over all elements of bits × (2 × index + 1), modulo 2**32. An odd factor
has an inverse, so no change of a single element goes unseen; and a sum over the
global array is the same on any mesh and with any number of processes, which a
hash of the bytes of each shard is not. Ours.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped, UInt


def of_leaves(tree: Any) -> dict[str, int]:
  """The checksum of each leaf by its path: 'params/encoder/kernel'."""
  sums = {path: _checksum(leaf) for path, leaf in leaves(tree)}
  return {path: int(value) for path, value in jax.device_get(sums).items()}


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


@jax.jit
def _checksum(array: Shaped[Array, ...]) -> UInt[Array, '']:
  words = _words(array)
  index = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(words.shape):
    # Row-major; wraps around beyond 2**32, and stays odd below.
    position = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    index = index * jnp.uint32(size % 2**32) + position
  return jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)


def _words(array: Shaped[Array, ...]) -> UInt[Array, ...]:
  """The bits of each element as 32-bit words."""
  if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if jnp.issubdtype(array.dtype, jnp.complexfloating):
    array = jnp.stack([array.real, array.imag], axis=-1)
  if array.dtype == jnp.bool_:
    return array.astype(jnp.uint32)
  bits = array.dtype.itemsize * 8
  if bits >= 32:  # 64 bits become a last axis of two words.
    return jax.lax.bitcast_convert_type(array, jnp.uint32)
  words = jax.lax.bitcast_convert_type(array, jnp.dtype(f'uint{bits}'))
  return words.astype(jnp.uint32)
