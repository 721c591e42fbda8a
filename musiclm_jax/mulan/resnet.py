# SPDX-License-Identifier: Apache-2.0
"""A ResNet over a spectrogram, as over an image of one channel.

He et al., "Deep Residual Learning for Image Recognition" (2016), table 1, with
the stride in the 3 × 3 convolution of a block. MuLan (Huang et al., 2022),
section 3.1: ResNet-50, mean over time and mel. Ours: GroupNorm where the paper
has BatchNorm, so that an example depends on no other and on no mesh; the last
norm of a block begins at 0 (Goyal et al., 2017, section 5.1).

Shapes: [batch, frames, mels] in, [batch, width] out. Steps that stand for
padding alone are left out of the mean; the norms see them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Array, FrameMask
from musiclm_jax.layers import normalization
from musiclm_jax.layers.convolve import Convolution

# A block's output over its inner width.
_EXPANSION = 4

_STEP_AXES = (axes.BATCH, axes.FRAMES, axes.MELS, axes.CHANNELS_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig:
  """Sizes of a ResNet of bottleneck blocks.

  Attributes:
    blocks: Of each stage; (3, 4, 6, 3) is ResNet-50.
    channels: Inner width of the first stage; each later one doubles it.
    num_groups: Of the norms.
    remat: Whether a training step computes each block's activations again.
    dtype: Compute type; norms are at least float32.
    param_dtype: Stored type.
  """

  blocks: tuple[int, ...] = (3, 4, 6, 3)
  channels: int = 64
  num_groups: int = 32
  remat: bool = False
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    object.__setattr__(self, 'blocks', tuple(self.blocks))  # gin's are lists.
    if self.channels % self.num_groups:
      raise ValueError(
        f'{self.channels} channels do not divide into {self.num_groups} groups;'
        ' change channels or num_groups.'
      )

  def make(self, *, name: str) -> nn.Module:
    """The body of a tower."""
    return ResNet(self, name=name)

  @property
  def stride(self) -> int:
    """Frames of one step of the last stage."""
    return 2 ** (len(self.blocks) + 1)

  @property
  def types(self) -> dict[str, Any]:
    """What every layer is told."""
    return {
      'dtype': jnp.dtype(self.dtype),
      'param_dtype': jnp.dtype(self.param_dtype),
    }


class ResNet(nn.Module):
  """A stem, stages of blocks, and the mean of what is left.

  Attributes:
    config: Sizes.
  """

  config: ResNetConfig

  @nn.compact
  def __call__(
    self,
    features: Float[Array, 'batch frames mels'],
    *,
    frame_mask: FrameMask,
  ) -> Float[Array, 'batch width']:
    config = self.config
    hidden = _convolved(config, config.channels, 7, 'stem', strides=2)(
      features[..., None]
    )
    hidden = _normed(config, 'stem_norm')(hidden)
    hidden = max_pool(jax.nn.relu(hidden))
    block = nn.remat(_Bottleneck) if config.remat else _Bottleneck
    for stage, num_blocks in enumerate(config.blocks):
      for index in range(num_blocks):
        hidden = block(
          config=config,
          channels=config.channels * 2**stage,
          stride=2 if stage and not index else 1,
          name=f'stage_{stage}_block_{index}',
        )(hidden)
        hidden = nn.with_logical_constraint(hidden, _STEP_AXES)
    steps = _mask_of_steps(frame_mask, stride=config.stride)
    return _masked_mean(hidden, steps)


class _Bottleneck(nn.Module):
  """1 × 1 down, 3 × 3, 1 × 1 up, added to what came in."""

  config: ResNetConfig
  channels: int
  stride: int

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch steps bins channels_in']
  ) -> Float[Array, 'batch out_steps out_bins channels_out']:
    config, width = self.config, self.channels
    hidden = _convolved(config, width, 1, 'down')(inputs)
    hidden = jax.nn.relu(_normed(config, 'down_norm')(hidden))
    hidden = _convolved(config, width, 3, 'middle', strides=self.stride)(hidden)
    hidden = jax.nn.relu(_normed(config, 'middle_norm')(hidden))
    hidden = _convolved(config, width * _EXPANSION, 1, 'up')(hidden)
    hidden = _normed(config, 'up_norm', scale_init=nn.initializers.zeros)(
      hidden
    )
    if inputs.shape != hidden.shape:
      inputs = inputs[:, :: self.stride, :: self.stride]
      inputs = _convolved(config, width * _EXPANSION, 1, 'shortcut')(inputs)
      inputs = _normed(config, 'shortcut_norm')(inputs)
    return jax.nn.relu(inputs + hidden)


def max_pool(
  values: Float[Array, 'batch steps bins channels'],
) -> Float[Array, 'batch half_steps half_bins channels']:
  """The largest of 3 × 3, every second step of both axes.

  By slices: XLA's own has a gradient that a CPU is many times slower at.
  """
  for axis in (1, 2):
    size = values.shape[axis]
    sides = [(0, 0)] * values.ndim
    sides[axis] = (1, 1)
    padded = jnp.pad(values, sides, constant_values=-jnp.inf)
    first, second, third = (
      jax.lax.slice_in_dim(padded, start, start + size, 2, axis)
      for start in range(3)
    )
    values = jnp.maximum(jnp.maximum(first, second), third)
  return values


def _convolved(
  config: ResNetConfig, features: int, taps: int, name: str, *, strides: int = 1
) -> Convolution:
  return Convolution(
    features=features,
    kernel_size=(taps, taps),
    strides=(strides, strides),
    weight_norm=False,
    use_bias=False,  # A norm follows.
    name=name,
    **config.types,
  )


def _normed(
  config: ResNetConfig, name: str, **options: Any
) -> normalization.GroupNorm:
  return normalization.GroupNorm(
    num_groups=config.num_groups, name=name, **options, **config.types
  )


def _mask_of_steps(
  frame_mask: FrameMask, *, stride: int
) -> Bool[Array, 'batch steps']:
  """True at steps of which a frame is valid."""
  batch, frames = frame_mask.shape
  padded = jnp.pad(frame_mask, ((0, 0), (0, -frames % stride)))
  return jnp.any(padded.reshape(batch, -1, stride), axis=-1)


def _masked_mean(
  hidden: Float[Array, 'batch steps bins channels'],
  mask: Bool[Array, 'batch steps'],
) -> Float[Array, 'batch channels']:
  """Over bins and valid steps; 0 if there is none."""
  values = hidden.astype(metrics.accumulation_dtype(hidden.dtype))
  values = jnp.mean(values, axis=2)
  weights = mask.astype(values.dtype)
  total = jnp.einsum('btc,bt->bc', values, weights)
  count = jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1)
  return (total / count).astype(hidden.dtype)
