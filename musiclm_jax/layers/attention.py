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
# Of a causal view without a bias, besides: `splash`, on TPUs.
CAUSAL_IMPLEMENTATIONS = (*IMPLEMENTATIONS, 'splash')

_PLATFORMS = {'cudnn': ('gpu', 'cuda'), 'splash': ('tpu',)}
# What cuDNN's kernel takes on every GPU that has it.
_CUDNN_TYPES = ('bfloat16', 'float16')
_CUDNN_WIDEST = 128


@flax.struct.dataclass
class View:
  """What the queries see: the same in all layers.

  Attributes:
    mask: True where a query may look, [batch or 1, heads or 1, length,
      attended].
    bias: Added to the scores, broadcast like `mask`; or None.
    positions: Of the queries, for rotary embedding; None for none.
    valid_mask: What makes a whole sequence's mask, if that is causal: False
      where a key is padding, [batch, attended]. Of any other view None.
  """

  mask: Any
  bias: Any = None
  positions: Any = None
  valid_mask: Any = None


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
  """Softmax-weighted means of the values, one a query and head.

  Where a query is padding itself, implementations differ.

  Raises:
    ValueError: A kernel is asked for that the platform or the view has not.
  """
  _require_platform(implementation)
  if implementation == 'splash':
    if view.bias is not None or view.valid_mask is None:
      raise ValueError(
        "The kernel 'splash' attends causally and adds no bias; use it in a"
        " Transformer of rotary positions, or choose 'einsum'."
      )
    # Late: Pallas takes long to import, and few ask for it.
    from musiclm_jax.layers import splash

    return splash.attend(query, key, value, valid_mask=view.valid_mask)
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


def require_kernel(
  implementation: str, *, is_rotary: bool, head_dim: int, dtype: str
) -> None:
  """Raises unless a kernel can do what a config asks of it."""
  if implementation == 'splash' and not is_rotary:
    raise ValueError(
      "attention='splash' adds no bias to its scores, and the position is not"
      " 'rotary'; set position to 'rotary', or attention to 'einsum' ('cudnn' on"
      ' a GPU).'
    )
  if implementation == 'cudnn' and (
    dtype not in _CUDNN_TYPES or head_dim % 8 or head_dim > _CUDNN_WIDEST
  ):
    raise ValueError(
      f"attention='cudnn' wants {' or '.join(_CUDNN_TYPES)} and heads whose"
      f' width is a multiple of 8 up to {_CUDNN_WIDEST}; the dtype is {dtype}'
      f" and the width {head_dim}. Change them, or set attention to 'einsum'."
    )


def _require_platform(implementation: str) -> None:
  wanted = _PLATFORMS.get(implementation)
  if wanted is None:
    return
  mesh = jax.sharding.get_abstract_mesh()
  platform = jax.default_backend()
  if not mesh.empty and mesh.abstract_device is not None:
    platform = mesh.abstract_device.platform
  if platform not in wanted:
    raise ValueError(
      f'attention={implementation!r} runs on the platform {wanted[0]!r} alone,'
      f" and this is {platform!r}; set attention to 'einsum', which runs"
      ' everywhere.'
    )


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
    implementation: Of `attend`, one of `CAUSAL_IMPLEMENTATIONS`.
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
        query,
        key,
        value,
        view=view,
        # Parameters are made anywhere, also for a device that is not here.
        implementation=(
          'einsum' if self.is_initializing() else self.implementation
        ),
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
