# SPDX-License-Identifier: Apache-2.0
"""Conformer blocks: attention for the far, a convolution for the near.

Gulati et al., "Conformer: Convolution-augmented Transformer for Speech
Recognition" (2020), section 2, equation 1: half a feed-forward, self-attention,
a convolution, half a feed-forward, and a norm at the end of each block.

Ours: LayerNorm in place of the BatchNorm within the convolution, so that a clip
does not depend on its batch nor on its padding; for positions T5's bias, one
table for either direction, or rotary embedding, in place of Transformer-XL's.

Shapes: [batch, frames, embed] in and out. Padding is never looked at: keys are
masked and the convolution reads zeros there, as beyond the ends. Dropout is on
where a 'dropout' key is given.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax import axes
from musiclm_jax.array_types import FrameMask, Latents
from musiclm_jax.layers import (
  attention,
  dense,
  embedding,
  feedforward,
  normalization,
  parameters,
  stack,
)

POSITIONS = ('relative', 'rotary')

_HIDDEN_AXES = (axes.BATCH, axes.FRAMES, axes.EMBED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformerConfig:
  """Sizes of one block and how it is computed.

  Attributes:
    num_heads: Attention heads.
    embed_dim: Width.
    mlp_dim: Hidden width of each feed-forward.
    kernel_size: Taps of the convolution, an odd number.
    dropout_rate: On hidden widths and on what is added to the stream.
    position: 'relative' for T5's bias, 'rotary' for rotary embedding.
    num_buckets: Of the relative bias, for either direction.
    max_distance: Of the relative bias.
    attention: How frames attend, of `attention.IMPLEMENTATIONS`.
    scan_layers: Whether the blocks are one program and one stacked parameter.
    remat: Whether a training step computes each block's activations again
      instead of keeping them.
    dtype: Compute type; norms, softmax and losses are at least float32.
    param_dtype: Stored type.
  """

  num_heads: int
  embed_dim: int
  mlp_dim: int
  kernel_size: int = 5
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
    known = {
      'position': POSITIONS,
      'attention': attention.IMPLEMENTATIONS,
    }
    for name, values in known.items():
      if getattr(self, name) not in values:
        raise ValueError(
          f'{name} is {getattr(self, name)!r}; choose one of {values}.'
        )
    # Rotary embedding turns pairs.
    parts = self.num_heads * (2 if self.position == 'rotary' else 1)
    if self.embed_dim % parts:
      raise ValueError(
        f'A width of {self.embed_dim} does not divide among {self.num_heads}'
        f' heads with {self.position!r} positions; choose a multiple of'
        f' {parts}.'
      )
    if self.kernel_size % 2 == 0:
      raise ValueError(
        f'kernel_size is {self.kernel_size}; a centred convolution takes an odd'
        ' number of taps.'
      )

  @property
  def head_dim(self) -> int:
    return self.embed_dim // self.num_heads

  @property
  def types(self) -> dict[str, Any]:
    """What every layer is told."""
    return {
      'dtype': jnp.dtype(self.dtype),
      'param_dtype': jnp.dtype(self.param_dtype),
    }


class DepthwiseConv(nn.Module):
  """A centred convolution of each channel by itself.

  A sum of shifted products: no backend gains from more for a few taps, and
  XLA's grouped convolution is many times slower on CPU.

  Attributes:
    kernel_size: Taps.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  kernel_size: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch frames mlp']
  ) -> Float[Array, 'batch frames mlp']:
    taps, frames, channels = self.kernel_size, *inputs.shape[1:]
    kernel = parameters.param(
      self,
      'kernel',
      nn.initializers.normal(taps**-0.5),
      (taps, channels),
      self.param_dtype,
      axes=(axes.KERNEL, axes.MLP),
    ).astype(self.dtype)
    extended = jnp.pad(
      inputs.astype(self.dtype), ((0, 0), (taps // 2, taps // 2), (0, 0))
    )
    return sum(
      extended[:, tap : tap + frames] * kernel[tap][None, None]
      for tap in range(taps)
    )


class ConvolutionModule(nn.Module):
  """Gated, convolved, normed, activated and back: figure 2 of the paper.

  Attributes:
    config: Sizes.
  """

  config: ConformerConfig

  @nn.compact
  def __call__(self, inputs: Latents, *, frame_mask: FrameMask) -> Latents:
    config = self.config
    hidden = dense.DenseGeneral(
      features=(2, config.embed_dim),
      axes=(None, axes.MLP, axes.EMBED),
      num_stacked=1,
      name='wide',
      **config.types,
    )(inputs)  # [batch, frames, gate and value, mlp]
    hidden = nn.with_logical_constraint(
      hidden, (axes.BATCH, axes.FRAMES, None, axes.MLP)
    )
    hidden = jax.nn.sigmoid(hidden[:, :, 0]) * hidden[:, :, 1]
    hidden = jnp.where(frame_mask[:, :, None], hidden, 0)
    hidden = DepthwiseConv(
      kernel_size=config.kernel_size, name='depthwise', **config.types
    )(hidden)
    hidden = normalization.LayerNorm(name='norm', **config.types)(hidden)
    return dense.DenseGeneral(
      features=(config.embed_dim,),
      axes=(axes.EMBED, axes.MLP),
      name='narrow',
      **config.types,
    )(jax.nn.silu(hidden))


class Block(nn.Module):
  """One Conformer block.

  Attributes:
    config: Sizes.
  """

  config: ConformerConfig

  @nn.compact
  def __call__(
    self, hidden: Latents, view: attention.View, frame_mask: FrameMask
  ) -> tuple[Latents, None]:
    """Returns the hidden frames, and the nothing that a scan asks for."""
    config = self.config
    hidden = hidden + 0.5 * self._feedforward('first', hidden)
    attended, _ = attention.SelfAttention(
      num_heads=config.num_heads,
      head_dim=config.head_dim,
      is_rotary=config.position == 'rotary',
      implementation=config.attention,
      name='attention',
      **config.types,
    )(self._norm('attention', hidden), view=view)
    hidden = hidden + self._dropped(attended)
    convolved = ConvolutionModule(config, name='convolution')(
      self._norm('convolution', hidden), frame_mask=frame_mask
    )
    hidden = hidden + self._dropped(convolved)
    hidden = hidden + 0.5 * self._feedforward('second', hidden)
    hidden = normalization.LayerNorm(name='norm', **config.types)(hidden)
    return nn.with_logical_constraint(hidden, _HIDDEN_AXES), None

  def _feedforward(self, which: str, hidden: Latents) -> Latents:
    config = self.config
    name = f'{which}_feedforward'
    made = feedforward.FeedForward(
      mlp_dim=config.mlp_dim,
      activation=jax.nn.silu,
      is_gated=False,
      dropout_rate=config.dropout_rate,
      name=name,
      **config.types,
    )(self._norm(name, hidden))
    return self._dropped(made)

  def _norm(self, of: str, hidden: Latents) -> Latents:
    return normalization.LayerNorm(name=f'{of}_norm', **self.config.types)(
      hidden
    )

  def _dropped(self, values: Latents) -> Latents:
    return nn.Dropout(
      self.config.dropout_rate, deterministic=not self.has_rng('dropout')
    )(values)


class Conformer(nn.Module):
  """A stack of blocks.

  Attributes:
    config: Sizes of each.
    num_blocks: How many.
  """

  config: ConformerConfig
  num_blocks: int

  @nn.compact
  def __call__(
    self,
    hidden: Latents,
    *,
    frame_mask: FrameMask,
    num_blocks: int | None = None,
  ) -> Latents:
    """Runs the stack.

    Args:
      hidden: The inputs.
      frame_mask: False where a frame is padding; its outputs mean nothing.
      num_blocks: Stops after so many; all if left out.

    Returns:
      The outputs of the last block that was run.
    """
    config = self.config
    wanted = self.num_blocks if num_blocks is None else num_blocks
    if not 0 <= wanted <= self.num_blocks:
      raise ValueError(
        f'{wanted} blocks are wanted of a Conformer that has {self.num_blocks}.'
      )
    view = self._view(frame_mask)
    block = Block
    if config.remat:
      block = stack.rematerialized(block, scanned=config.scan_layers)
    if not config.scan_layers:
      for index in range(wanted):
        hidden, _ = block(config, name=f'block_{index}')(
          hidden, view, frame_mask
        )
      return hidden
    if wanted != self.num_blocks:
      raise ValueError(
        f'{wanted} of {self.num_blocks} blocks are wanted of a Conformer with'
        ' scan_layers, which runs all or none; unstack its parameters with'
        ' `unstack_blocks` and set scan_layers to False.'
      )
    blocks = stack.scanned(block, num_blocks=self.num_blocks)
    hidden, _ = blocks(config, name='blocks')(hidden, view, frame_mask)
    return hidden

  def _view(self, frame_mask: FrameMask) -> attention.View:
    frames = frame_mask.shape[1]
    bias = None
    if self.config.position == 'relative':
      past, future = (
        embedding.RelativeBias(
          num_heads=self.config.num_heads,
          num_buckets=self.config.num_buckets,
          max_distance=self.config.max_distance,
          param_dtype=self.config.types['param_dtype'],
          name=f'{direction}_bias',
        )(frames)
        for direction in ('past', 'future')
      )
      bias = embedding.two_sided_bias_matrix(past=past, future=future)
    return attention.View(
      mask=frame_mask[:, None, None, :],
      bias=bias,
      positions=jnp.arange(frames),
    )


def unstack_blocks(params: Any, *, num_blocks: int) -> dict[str, Any]:
  """The parameters of a Conformer with scan_layers, one entry a block.

  Those of one without come back as they are.
  """
  return stack.unstack(
    params, stacked='blocks', separate='block', num_blocks=num_blocks
  )
