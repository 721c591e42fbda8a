# SPDX-License-Identifier: Apache-2.0
"""Token tables and what tells positions apart.

Relative bias: T5 (Raffel et al., 2020), section 2.1, in its one-directional
form; one table serves all layers. Rotary: Su et al., "RoFormer" (2021), section
3.4.2, with the halves of a head as the two coordinates.

Shapes: length = positions, heads, kv = width of one head. Distances count from
a query back to a key: 0 is the query's own position.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Tokens
from musiclm_jax.layers import parameters

_ROTARY_BASE = 10_000


class Embedding(nn.Module):
  """A table of vectors, one a token.

  Attributes:
    num_ids: Tokens.
    embed_dim: Width.
    dtype: Type of the vectors.
    param_dtype: Stored type.
  """

  num_ids: int
  embed_dim: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: Tokens) -> Float[Array, 'batch length embed']:
    table = parameters.param(
      self,
      'table',
      nn.initializers.normal(stddev=1.0),  # T5 1.1's.
      (self.num_ids, self.embed_dim),
      self.param_dtype,
      axes=(axes.VOCAB, axes.EMBED),
    )
    return jnp.take(table, jnp.asarray(tokens), axis=0).astype(self.dtype)


class RelativeBias(nn.Module):
  """One learned bias a head and bucket of distances.

  Attributes:
    num_heads: Attention heads.
    num_buckets: Rows of the table.
    max_distance: From here on all distances share the last bucket.
    param_dtype: Stored type.
  """

  num_heads: int
  num_buckets: int = 32
  max_distance: int = 128
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, num_distances: int) -> Float[Array, 'heads distances']:
    """The bias of distances 0 to `num_distances` - 1, at least float32."""
    table = bias_table(
      self,
      nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
      num_buckets=self.num_buckets,
    )
    buckets = distance_buckets(
      num_distances,
      num_buckets=self.num_buckets,
      max_distance=self.max_distance,
    )
    return jnp.take(table, buckets, axis=1)


def bias_table(
  module: nn.Module,
  initializer: nn.initializers.Initializer,
  *,
  num_buckets: int,
) -> Float[Array, 'heads buckets']:
  """The parameter of a bias, at least float32.

  Args:
    module: Whose it is; has `num_heads` and `param_dtype`.
    initializer: Of the table.
    num_buckets: Its columns.
  """
  table = parameters.param(
    module,
    'table',
    initializer,
    (module.num_heads, num_buckets),
    module.param_dtype,
    axes=(axes.HEADS, None),
  )
  return table.astype(metrics.accumulation_dtype(table.dtype))


def distance_buckets(
  num_distances: int, *, num_buckets: int, max_distance: int
) -> Int[np.ndarray, ' distances']:
  """The bucket of each distance: one each at first, then by the logarithm."""
  num_exact = num_buckets // 2
  distances = np.arange(num_distances)
  share = np.log(np.maximum(distances, 1) / num_exact) / math.log(
    max_distance / num_exact
  )
  # The epsilon keeps exact powers in the bucket that they open.
  far = num_exact + np.floor(share * (num_buckets - num_exact) + 1e-9)
  far = np.minimum(far, num_buckets - 1)
  return np.where(distances < num_exact, distances, far).astype(np.int32)


def bias_matrix(
  by_distance: Float[Array, 'heads length'],
) -> Float[Array, '1 heads length length']:
  """[query, key] from distances; keys after their query get distance 0's.

  By reshaping and not by a gather, whose gradient would be a slow scatter.
  """
  heads, length = by_distance.shape
  # u[r - q], where r - q runs around 2 * length: first the keys from the query
  # on, then the largest distance down to 1.
  onward = jnp.broadcast_to(by_distance[:, :1], (heads, length + 1))
  values = jnp.concatenate([onward, by_distance[:, :0:-1]], axis=1)
  # In rows of one less than 2 * length, each starts one place earlier.
  tiled = jnp.tile(values, (1, length))[:, : length * (2 * length - 1)]
  return tiled.reshape(1, heads, length, -1)[..., :length]


def two_sided_bias_matrix(
  *, past: Float[Array, 'heads length'], future: Float[Array, 'heads length']
) -> Float[Array, '1 heads length length']:
  """[query, key] from distances back (`past`, 0 included) and onward."""
  length = past.shape[1]
  onward = bias_matrix(future).swapaxes(-1, -2)
  is_past = jnp.tril(jnp.ones((1, 1, length, length), bool))
  return jnp.where(is_past, bias_matrix(past), onward)


def bias_row(
  by_distance: Float[Array, 'heads capacity'], *, position: Int[Array, '']
) -> Float[Array, 'heads capacity']:
  """The biases of one query at `position` for each key of a cache.

  Keys after the query get a value that means nothing; mask them.
  """
  heads, capacity = by_distance.shape
  ahead = jnp.broadcast_to(by_distance[:, :1], (heads, capacity))
  values = jnp.concatenate([by_distance[:, ::-1], ahead], axis=1)
  return jax.lax.dynamic_slice_in_dim(
    values, capacity - 1 - position, capacity, axis=1
  )


def rotate(
  heads: Float[Array, 'batch length heads kv'],
  positions: Int[Array, ' length'],
) -> Float[Array, 'batch length heads kv']:
  """Turns each pair of coordinates by its position times its frequency."""
  dtype = metrics.accumulation_dtype(heads.dtype)
  half = heads.shape[-1] // 2
  frequencies = _ROTARY_BASE ** (-np.arange(half) / half)
  # Float32: bfloat16 cannot tell position 257 from 258.
  angles = (
    positions.astype(dtype)[:, None] * jnp.asarray(frequencies, dtype)[None]
  )[None, :, None]  # [1, length, 1, kv / 2]
  first, second = jnp.split(heads.astype(dtype), 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  turned = jnp.concatenate(
    [first * cos - second * sin, first * sin + second * cos], axis=-1
  )
  return turned.astype(heads.dtype)
