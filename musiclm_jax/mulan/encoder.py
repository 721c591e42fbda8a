# SPDX-License-Identifier: Apache-2.0
"""A Transformer encoder: every position sees every valid one.

Norms after each layer: Vaswani et al., "Attention Is All You Need" (2017),
section 3.1, which is BERT's. Norms before each layer and one at the end:
Dosovitskiy et al., "An Image Is Worth 16x16 Words" (2021), equations 2 to 4.

Shapes: [batch, length, embed] in and out. Dropout is on where a 'dropout' key
is given; ours: none on the attention weights.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import axes
from musiclm_jax.array_types import Array
from musiclm_jax.layers import attention, feedforward, normalization, stack

_HIDDEN_AXES = (axes.BATCH, axes.LENGTH, axes.EMBED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
  """Sizes of an encoder and how it is computed.

  Attributes:
    num_layers: Blocks of attention and feed-forward.
    num_heads: Attention heads, which share the width.
    embed_dim: Width.
    mlp_dim: Hidden width of the feed-forward.
    norm: 'before' each layer, or 'after' it is added to the stream.
    norm_epsilon: Added to the variance.
    dropout_rate: On what is added to the stream.
    attention: Of `attention.IMPLEMENTATIONS`.
    scan_layers: Whether the layers are one program and one stacked parameter.
    remat: Whether a training step computes each block's activations again.
    dtype: Compute type; norms and softmax are at least float32.
    param_dtype: Stored type.
  """

  num_layers: int
  num_heads: int
  embed_dim: int
  mlp_dim: int
  norm: str
  norm_epsilon: float = 1e-6
  dropout_rate: float = 0.1
  attention: str = 'einsum'
  scan_layers: bool = False
  remat: bool = False
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    if self.embed_dim % self.num_heads:
      raise ValueError(
        f'A width of {self.embed_dim} does not divide among {self.num_heads}'
        ' heads; change either.'
      )
    known = {
      'norm': ('before', 'after'),
      'attention': attention.IMPLEMENTATIONS,
    }
    for name, values in known.items():
      if getattr(self, name) not in values:
        raise ValueError(
          f'{name} is {getattr(self, name)!r}; choose one of {values}.'
        )

  @property
  def types(self) -> dict[str, Any]:
    """What every layer is told."""
    return {
      'dtype': jnp.dtype(self.dtype),
      'param_dtype': jnp.dtype(self.param_dtype),
    }


def layer_norm(config: EncoderConfig, name: str) -> normalization.LayerNorm:
  """A norm as the blocks have it."""
  return normalization.LayerNorm(
    epsilon=config.norm_epsilon, name=name, **config.types
  )


def dropped(
  module: nn.Module, values: Float[Array, 'batch length embed'], rate: float
) -> Float[Array, 'batch length embed']:
  """`values` with dropout, where `module` has a key for it."""
  return nn.Dropout(rate, deterministic=not module.has_rng('dropout'))(values)


class _Block(nn.Module):
  """Attention, then feed-forward, each added to the stream."""

  config: EncoderConfig

  @nn.compact
  def __call__(
    self, hidden: Float[Array, 'batch length embed'], view: attention.View
  ) -> tuple[Float[Array, 'batch length embed'], None]:
    config = self.config
    attend = attention.SelfAttention(
      num_heads=config.num_heads,
      head_dim=config.embed_dim // config.num_heads,
      use_bias=True,
      implementation=config.attention,
      name='attention',
      **config.types,
    )
    feed = feedforward.FeedForward(
      mlp_dim=config.mlp_dim,
      # Exact: the usual approximation is off by 1e-3, more than a check of
      # published weights allows.
      activation=functools.partial(jax.nn.gelu, approximate=False),
      is_gated=False,
      use_bias=True,
      name='feedforward',
      **config.types,
    )
    hidden = self._add(
      'attention_norm', hidden, lambda inputs: attend(inputs, view=view)[0]
    )
    hidden = self._add('feedforward_norm', hidden, feed)
    return nn.with_logical_constraint(hidden, _HIDDEN_AXES), None

  def _add(self, norm_name: str, hidden: jax.Array, layer: Any) -> jax.Array:
    """The stream with what `layer` makes of it."""
    config = self.config
    norm = layer_norm(config, norm_name)
    if config.norm == 'before':
      return hidden + dropped(self, layer(norm(hidden)), config.dropout_rate)
    return norm(hidden + dropped(self, layer(hidden), config.dropout_rate))


class Encoder(nn.Module):
  """Blocks over a whole sequence.

  Attributes:
    config: Sizes.
  """

  config: EncoderConfig

  @nn.compact
  def __call__(
    self,
    embedded: Float[Array, 'batch length embed'],
    *,
    valid_mask: Bool[Array, 'batch length'],
  ) -> Float[Array, 'batch length embed']:
    """Contextual vectors; those of positions that are not valid mean nothing."""
    config = self.config
    hidden = nn.with_logical_constraint(embedded, _HIDDEN_AXES)
    view = attention.View(mask=jnp.asarray(valid_mask)[:, None, None, :])
    block = _Block
    if config.remat:
      block = stack.rematerialized(block, scanned=config.scan_layers)
    if config.scan_layers:
      layers = stack.scanned(block, num_blocks=config.num_layers)
      hidden, _ = layers(config=config, name='layers')(hidden, view)
    else:
      for index in range(config.num_layers):
        hidden, _ = block(config=config, name=f'layer_{index}')(hidden, view)
    if config.norm == 'before':
      hidden = layer_norm(config, 'norm')(hidden)
    return hidden
