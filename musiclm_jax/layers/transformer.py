# SPDX-License-Identifier: Apache-2.0
"""A decoder-only Transformer body: T5 1.1's decoder without cross-attention.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer" (2020), with the gated GELU of its version 1.1: norms
before the layers and at the end, no biases, relative position bias in one table
for all layers. Scores are divided by the root of the head width, which T5 puts
into its initializer (ours, for rotary embedding and fused kernels).

Shapes: [batch, length, embed]; capacity = positions a cache has room for.
Dropout is on where a 'dropout' key is given.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax import axes
from musiclm_jax.layers import (
  alignment,
  attention,
  embedding,
  feedforward,
  normalization,
  stack,
)
from musiclm_jax.layers.cache import LayerCache

POSITIONS = ('relative', 'aligned', 'rotary')

_HIDDEN_AXES = (axes.BATCH, axes.LENGTH, axes.EMBED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """Sizes of a Transformer body and how it is computed.

  Attributes:
    num_layers: Blocks of attention and feed-forward.
    num_heads: Attention heads.
    embed_dim: Width.
    mlp_dim: Hidden width of the feed-forward, gate and value each.
    head_dim: Width of a head; None divides the width among the heads.
    dropout_rate: On embeddings, hidden widths and what is added to the stream.
    position: 'relative' for T5's bias, 'aligned' for one of times between the
      segments of a row besides (`alignment`), 'rotary' for rotary embedding.
    num_buckets: Of the relative bias, and of times in either direction.
    max_distance: Of the relative bias in positions, of times in ticks.
    attention: How whole sequences attend, of
      `attention.CAUSAL_IMPLEMENTATIONS`.
    scan_layers: Whether the layers are one program and one stacked parameter:
      compiles faster, and cannot decode (see `unstack_layers`).
    remat: Whether a training step computes each block's activations again
      instead of keeping them.
    dtype: Compute type; norms, softmax and losses are at least float32.
    param_dtype: Stored type; 'int8' for kernels of int8 and all else float32,
      which decodes and is not trained.
  """

  num_layers: int
  num_heads: int
  embed_dim: int
  mlp_dim: int
  head_dim: int | None = None
  dropout_rate: float = 0.1
  position: str = 'relative'
  num_buckets: int = 32
  max_distance: int = 128
  attention: str = 'einsum'
  scan_layers: bool = False
  remat: bool = False
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    if self.head_dim is None:
      if self.embed_dim % self.num_heads:
        raise ValueError(
          f'A width of {self.embed_dim} does not divide among'
          f' {self.num_heads} heads; set head_dim, or change either.'
        )
      object.__setattr__(self, 'head_dim', self.embed_dim // self.num_heads)
    known = {
      'position': POSITIONS,
      'attention': attention.CAUSAL_IMPLEMENTATIONS,
    }
    for name, values in known.items():
      if getattr(self, name) not in values:
        raise ValueError(
          f'{name} is {getattr(self, name)!r}; choose one of {values}.'
        )
    if self.position == 'rotary' and self.head_dim % 2:
      raise ValueError(
        f'Rotary embedding turns pairs, and head_dim is {self.head_dim}; choose'
        ' an even one.'
      )
    attention.require_kernel(
      self.attention,
      is_rotary=self.position == 'rotary',
      head_dim=self.head_dim,
      dtype=self.dtype,
    )

  @property
  def types(self) -> dict[str, Any]:
    """What tables and norms are told."""
    stored = 'float32' if self.param_dtype == 'int8' else self.param_dtype
    return {'dtype': jnp.dtype(self.dtype), 'param_dtype': jnp.dtype(stored)}

  @property
  def kernel_types(self) -> dict[str, Any]:
    """What layers with kernels are told."""
    return {**self.types, 'param_dtype': jnp.dtype(self.param_dtype)}


@flax.struct.dataclass
class Contextual:
  """What a Transformer makes.

  Attributes:
    hidden: After the last norm, [batch, length, embed].
    caches: One a layer, if they were asked for or given; else empty.
  """

  hidden: Any
  caches: tuple[LayerCache, ...] = ()


class Block(nn.Module):
  """Attention, then feed-forward, each normed before and added to the stream.

  Attributes:
    config: Sizes.
    keeps_cache: Whether keys and values are handed back.
  """

  config: TransformerConfig
  keeps_cache: bool = False

  @nn.compact
  def __call__(
    self,
    hidden: Float[Array, 'batch length embed'],
    view: attention.View,
    cache: LayerCache | None = None,
    position: Int[Array, ''] | None = None,
  ) -> tuple[Float[Array, 'batch length embed'], LayerCache | None]:
    config = self.config
    attended, cache = attention.SelfAttention(
      num_heads=config.num_heads,
      head_dim=config.head_dim,
      is_rotary=config.position == 'rotary',
      implementation=config.attention,
      name='attention',
      **config.kernel_types,
    )(
      normalization.RMSNorm(name='attention_norm', **config.types)(hidden),
      view=view,
      cache=cache,
      position=position,
    )
    hidden = hidden + _dropped(self, attended)
    made = feedforward.FeedForward(
      mlp_dim=config.mlp_dim,
      dropout_rate=config.dropout_rate,
      name='feedforward',
      **config.kernel_types,
    )(normalization.RMSNorm(name='feedforward_norm', **config.types)(hidden))
    hidden = nn.with_logical_constraint(
      hidden + _dropped(self, made), _HIDDEN_AXES
    )
    return hidden, cache if self.keeps_cache else None


class Transformer(nn.Module):
  """Blocks over a causal sequence.

  Attributes:
    config: Sizes.
    spans: The segments of the sequence, which 'aligned' positions need.
  """

  config: TransformerConfig
  spans: tuple[alignment.Span, ...] = ()

  @nn.compact
  def __call__(
    self,
    embedded: Float[Array, 'batch length embed'],
    *,
    valid_mask: Bool[Array, 'batch attended'],
    keeps_caches: bool = False,
    caches: tuple[LayerCache, ...] = (),
    position: Int[Array, ''] | None = None,
  ) -> Contextual:
    """Runs a whole sequence, or one position after those in `caches`.

    Args:
      embedded: The inputs; of one position if there are caches.
      valid_mask: False where a position is padding and is not looked at; as
        wide as the inputs, or as the capacity of the caches.
      keeps_caches: Whether a whole sequence hands its caches back.
      caches: What came before, one a layer.
      position: Where the inputs stand, if there are caches.

    Returns:
      The outputs, and the caches with the inputs in them.
    """
    hidden = nn.with_logical_constraint(_dropped(self, embedded), _HIDDEN_AXES)
    view = self._view(valid_mask, position=position)
    if caches:
      hidden, kept = self._step(hidden, view, caches, position)
    else:
      hidden, kept = self._whole(hidden, view, keeps_caches)
    hidden = normalization.RMSNorm(name='norm', **self.config.types)(hidden)
    return Contextual(_dropped(self, hidden), kept)

  def _view(
    self,
    valid_mask: Bool[Array, 'batch attended'],
    *,
    position: Int[Array, ''] | None,
  ) -> attention.View:
    """What is seen of the sequence, or from `position` of a cache."""
    num_attended = valid_mask.shape[1]
    if position is None:
      return attention.View(
        mask=attention.causal_mask(valid_mask),
        valid_mask=valid_mask,
        bias=self._bias(num_attended),
        positions=jnp.arange(num_attended),
      )
    past = jnp.arange(num_attended) <= position
    return attention.View(
      mask=(past[None] & valid_mask)[:, None, None],
      bias=self._bias(num_attended, position=position),
      positions=position[None],
    )

  def _bias(
    self, num_attended: int, *, position: Int[Array, ''] | None = None
  ) -> Float[Array, '1 heads _ attended'] | None:
    """Of every query, or of the one at `position`; None where none is added."""
    config = self.config
    if config.position == 'rotary':
      return None
    is_aligned = config.position == 'aligned'
    sizes = {
      'num_heads': config.num_heads,
      'num_buckets': config.num_buckets,
      'max_distance': config.max_distance,
      'param_dtype': config.types['param_dtype'],
    }
    if is_aligned:
      if not self.spans:
        raise ValueError(
          "position='aligned' tells the times of a row's segments, and this"
          " Transformer has none; set position to 'relative' or 'rotary'."
        )
      by_lag = alignment.TimeBias(name='time_bias', **sizes)(
        alignment.max_lag(self.spans)
      )
    by_distance = embedding.RelativeBias(name='relative_bias', **sizes)(
      num_attended
    )
    if position is None:
      bias = embedding.bias_matrix(by_distance)
      if is_aligned:
        bias = alignment.align_matrix(bias, by_lag, spans=self.spans)
      return bias
    bias = embedding.bias_row(by_distance, position=position)
    if is_aligned:
      bias = alignment.align_row(
        bias, by_lag, spans=self.spans, position=position
      )
    return bias[None, :, None]

  def _whole(
    self, hidden: jax.Array, view: attention.View, keeps_caches: bool
  ) -> tuple[jax.Array, tuple[LayerCache, ...]]:
    config = self.config
    block = Block
    if config.remat:
      block = stack.rematerialized(block, scanned=config.scan_layers)
    if config.scan_layers and not keeps_caches:
      layers = stack.scanned(block, num_blocks=config.num_layers)
      hidden, _ = layers(config=config, name='layers')(hidden, view)
      return hidden, ()
    self._require_separate_layers()
    kept = []
    for index in range(config.num_layers):
      hidden, cache = block(
        config=config, keeps_cache=keeps_caches, name=f'layer_{index}'
      )(hidden, view)
      kept.append(cache)
    return hidden, tuple(kept) if keeps_caches else ()

  def _step(
    self,
    hidden: jax.Array,
    view: attention.View,
    caches: tuple[LayerCache, ...],
    position: Int[Array, ''],
  ) -> tuple[jax.Array, tuple[LayerCache, ...]]:
    self._require_separate_layers()
    kept = []
    for index, cache in enumerate(caches):
      hidden, cache = Block(
        config=self.config, keeps_cache=True, name=f'layer_{index}'
      )(hidden, view, cache, position)
      kept.append(cache)
    return hidden, tuple(kept)

  def _require_separate_layers(self) -> None:
    if self.config.scan_layers:
      raise ValueError(
        'A Transformer with scan_layers cannot decode: inside a loop its'
        ' stacked parameters would be copied layer by layer. Unstack them with'
        ' `unstack_layers` and set scan_layers to False.'
      )


def unstack_layers(params: Any, *, num_layers: int) -> dict[str, Any]:
  """The parameters of a Transformer with scan_layers, one entry a layer.

  Those of one without come back as they are.
  """
  return stack.unstack(
    params, stacked='layers', separate='layer', num_blocks=num_layers
  )


def _dropped(
  module: nn.Module, values: Float[Array, 'batch length embed']
) -> Float[Array, 'batch length embed']:
  """`values` with dropout; broadcasts nothing, unlike T5's over positions."""
  return nn.Dropout(
    module.config.dropout_rate, deterministic=not module.has_rng('dropout')
  )(values)
