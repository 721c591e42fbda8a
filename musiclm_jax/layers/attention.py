# SPDX-License-Identifier: Apache-2.0
"""Multi-head self-attention, over a whole sequence or one position at a time.

Vaswani et al., "Attention Is All You Need" (2017), section 3.2. Ours: no
dropout on the attention weights, so that a fused kernel can take the place of
`einsum`.

Shapes: batch, length = queries, attended = keys, heads, kv = width of one head,
embed. Einsum letters: b batch, s queries, r keys, h heads, k head width.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax import axes, metrics
from musiclm_jax.layers import dense, embedding
from musiclm_jax.layers.cache import LayerCache

# 'einsum' is ours and runs everywhere; 'xla' and 'cudnn' are those of
# `jax.nn.dot_product_attention` (cuDNN: NVIDIA GPUs, bfloat16 or float16).
IMPLEMENTATIONS = ('einsum', 'xla', 'cudnn')


@flax.struct.dataclass
class View:
  """What the queries see: the same in all layers.

  Attributes:
    mask: True where a query may look, [batch or 1, heads or 1, length,
      attended].
    bias: Added to the scores, broadcast like `mask`; or None.
    positions: Of the queries, for rotary embedding; None for none.
  """

  mask: Any
  bias: Any = None
  positions: Any = None


def causal_mask(
  valid_mask: Bool[Array, 'batch length'],
) -> Bool[Array, 'batch 1 length length']:
  """True for keys that are not padding and not after their query."""
  length = valid_mask.shape[1]
  past = jnp.tril(jnp.ones((1, 1, length, length), bool))
  return past & valid_mask[:, None, None, :]


def attend(
  query: Float[Array, 'batch length heads kv'],
  key: Float[Array, 'batch attended heads kv'],
  value: Float[Array, 'batch attended heads kv'],
  *,
  view: View,
  implementation: str = 'einsum',
) -> Float[Array, 'batch length heads kv']:
  """Softmax-weighted means of the values, one a query and head."""
  if implementation != 'einsum':
    bias = view.bias
    return jax.nn.dot_product_attention(
      query,
      key,
      value,
      bias=None if bias is None else bias.astype(query.dtype),
      mask=view.mask,
      implementation=implementation,
    )
  scores = jnp.einsum('bshk,brhk->bhsr', query, key, **_accumulated(query))
  weights = _weights(scores, kv=query.shape[-1], view=view)
  return jnp.einsum('bhsr,brhk->bshk', weights.astype(value.dtype), value)


def attend_cached(
  query: Float[Array, 'batch length heads kv'],
  cache: LayerCache,
  *,
  view: View,
) -> Float[Array, 'batch length heads kv']:
  """As `attend`, over what a cache holds; `view` masks what it does not."""
  scores = jnp.einsum(
    'bshk,bhrk->bhsr', query, cache.key, **_accumulated(query)
  )
  weights = _weights(scores, kv=query.shape[-1], view=view)
  return jnp.einsum(
    'bhsr,bhrk->bshk', weights.astype(cache.value.dtype), cache.value
  )


def _accumulated(query: jax.Array) -> dict[str, Any]:
  return {'preferred_element_type': metrics.accumulation_dtype(query.dtype)}


def _weights(scores: jax.Array, *, kv: int, view: View) -> jax.Array:
  """Softmax over the keys, at least float32."""
  scores = scores * kv**-0.5
  if view.bias is not None:
    bias = view.bias.astype(scores.dtype)
    scores = scores + jnp.broadcast_to(bias, scores.shape)
  mask = jnp.broadcast_to(view.mask, scores.shape)
  # Not -inf: a query that sees nothing then gets a mean and not NaN.
  scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
  return jax.nn.softmax(scores, axis=-1)


class SelfAttention(nn.Module):
  """Projections around `attend`.

  Attributes:
    num_heads: Heads.
    head_dim: Width of one.
    is_rotary: Whether queries and keys are turned by their positions.
    use_bias: Whether the projections add a bias.
    implementation: Of `attend`, one of `IMPLEMENTATIONS`.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  num_heads: int
  head_dim: int
  is_rotary: bool = False
  use_bias: bool = False
  implementation: str = 'einsum'
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, 'batch length embed'],
    *,
    view: View,
    cache: LayerCache | None = None,
    position: Int[Array, ''] | None = None,
  ) -> tuple[Float[Array, 'batch length embed'], LayerCache]:
    """Attends within the inputs, or from one position to a cache.

    Args:
      inputs: A whole sequence; one position if there is a cache.
      view: What is seen: of the inputs, or of the cache.
      cache: What came before, or None.
      position: Where in the cache the inputs belong.

    Returns:
      The outputs, and the cache with the inputs in it.
    """
    options = {
      'use_bias': self.use_bias,
      'dtype': self.dtype,
      'param_dtype': self.param_dtype,
    }
    projected = dense.DenseGeneral(
      features=(3, self.num_heads, self.head_dim),
      axes=(None, axes.HEADS, axes.KV, axes.EMBED),
      num_stacked=1,
      name='query_key_value',
      **options,
    )(inputs)  # [batch, length, 3, heads, kv]
    projected = nn.with_logical_constraint(
      projected, (axes.BATCH, axes.LENGTH, None, axes.HEADS, axes.KV)
    )
    query, key, value = (projected[:, :, index] for index in range(3))
    if self.is_rotary:
      query = embedding.rotate(query, view.positions)
      key = embedding.rotate(key, view.positions)
    if cache is None:
      outputs = attend(
        query, key, value, view=view, implementation=self.implementation
      )
      cache = LayerCache.of(key, value)
    else:
      cache = cache.write(key, value, position=position)
      outputs = attend_cached(query, cache, view=view)
    outputs = dense.DenseGeneral(
      features=(inputs.shape[-1],),
      axes=(axes.EMBED, axes.HEADS, axes.KV),
      num_inputs=2,
      name='out',
      **options,
    )(outputs)
    return outputs, cache
