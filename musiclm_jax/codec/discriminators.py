# SPDX-License-Identifier: Apache-2.0
"""Discriminators: how real a waveform looks, and what was seen on the way.

SoundStream (Zeghidour et al., 2021), section III-D: waves at three resolutions
in the shape of MelGAN (Kumar et al., 2019), section 2.2, and the complex STFT
at one, figure 4. EnCodec's complex STFT at five (Défossez et al., "High
Fidelity Neural Audio Compression", 2022, section 3.4) may replace or join them.

Ours, where the SoundStream paper is silent: leaky ReLU of slope 0.2, weight
normalization, a skip of one tap, the highest STFT bin left out so that there
are window / 2.

Shapes: waveform [batch, samples]; features [batch, steps, (bins,) channels];
logits [batch, steps] or [batch, steps, bins]. Step i of a layer stands for the
samples from i * stride to (i + 1) * stride.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax.array_types import Array, SampleMask, Waveform
from musiclm_jax.audio import spectral
from musiclm_jax.layers import convolve

_CHANNELS_A_GROUP = 4  # of MelGAN's grouped convolutions


@flax.struct.dataclass
class Layer:
  """What one layer says, and where that is about audio at all.

  Its shapes and its cotangents are of the same class, so the types are not
  told here.

  Attributes:
    values: One or more values for each step, [batch, steps, ...].
    mask: True at the steps that stand for at least one valid sample, [batch,
      steps].
  """

  values: Any
  mask: Any


@flax.struct.dataclass
class Judgement:
  """One discriminator's view of a waveform.

  Attributes:
    logits: Above 0 for real.
    features: Its internal layers, first to last.
  """

  logits: Layer
  features: tuple[Layer, ...]


@runtime_checkable
class DiscriminatorConfig(Protocol):
  """What the configs below offer, and a discriminator of one's own must."""

  def module(self, name: str, dtype: Any, param_dtype: Any) -> nn.Module:
    """Called as (waveform, sample_mask), gives a sequence of Judgements."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveConfig:
  """Wave discriminators, equal but for the resolution they listen at.

  Attributes:
    channels: Of the first layer.
    max_channels: Where the widening by 4 at each stride stops.
    num_strides: Grouped layers, each with a stride of 4.
    num_resolutions: 1x, 1/2x, 1/4x and so on.
    weight_norm: Whether kernels are stored as direction and norm.
  """

  channels: int = 16
  max_channels: int = 1024
  num_strides: int = 4
  num_resolutions: int = 3
  weight_norm: bool = True

  def __post_init__(self):
    for channels in (self.channels, self.max_channels):
      if channels % _CHANNELS_A_GROUP:
        raise ValueError(
          f'A wave discriminator of {self.channels} to {self.max_channels}'
          f' channels: both must be multiples of {_CHANNELS_A_GROUP}.'
        )

  def module(self, name: str, dtype: Any, param_dtype: Any) -> nn.Module:
    return WaveDiscriminators(
      config=self, dtype=dtype, param_dtype=param_dtype, name=name
    )


class WaveDiscriminators(nn.Module):
  """Three times the same network, at lower and lower rates.

  Attributes:
    config: Sizes.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  config: WaveConfig
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, waveform: Waveform, sample_mask: SampleMask
  ) -> list[Judgement]:
    judgements = []
    for index in range(self.config.num_resolutions):
      if index:
        waveform = halve_rate(waveform)
      judgements.append(self._judge(index, waveform, sample_mask))
    return judgements

  def _judge(
    self,
    index: int,
    waveform: Float[Array, 'batch lower_rate'],
    sample_mask: SampleMask,
  ) -> Judgement:
    config = self.config

    def conv(layer: str, features: int, taps: int, **options: Any) -> nn.Module:
      return convolve.Convolution(
        features=features,
        kernel_size=(taps,),
        weight_norm=config.weight_norm,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f'resolution_{index}_{layer}',
        **options,
      )

    stride, channels = 2**index, config.channels
    hidden = _leaky_relu(conv('first', channels, 15)(waveform[..., None]))
    features = [_layer(hidden, sample_mask, stride)]
    for number in range(config.num_strides):
      groups = channels // _CHANNELS_A_GROUP
      channels = min(4 * channels, config.max_channels)
      grouped = conv(
        f'grouped_{number}', channels, 41, strides=(4,), num_groups=groups
      )
      hidden = _leaky_relu(grouped(hidden))
      stride *= 4
      features.append(_layer(hidden, sample_mask, stride))
    hidden = _leaky_relu(conv('wide', channels, 5)(hidden))
    features.append(_layer(hidden, sample_mask, stride))
    logits = conv('logits', 1, 3)(hidden)[..., 0]
    return Judgement(_layer(logits, sample_mask, stride), tuple(features))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StftConfig:
  """The discriminator on the complex STFT at one resolution.

  Attributes:
    window_samples: Length of the window (W); it sees W / 2 bins.
    hop_samples: Samples from one frame to the next (H).
    channels: Of the first layer (C).
    multipliers: Of C, at the output of each residual block.
    weight_norm: Whether kernels are stored as direction and norm.
  """

  window_samples: int = 1024
  hop_samples: int = 256
  channels: int = 32
  multipliers: tuple[int, ...] = (2, 4, 4, 8, 8, 16)
  weight_norm: bool = True

  def __post_init__(self):
    object.__setattr__(self, 'multipliers', tuple(self.multipliers))
    folds = 2 ** len(self.multipliers)
    if self.window_samples // 2 % folds:
      raise ValueError(
        f'{len(self.multipliers)} residual blocks halve the'
        f' {self.window_samples // 2} bins of a window of'
        f' {self.window_samples} as often; take a multiple of {2 * folds}.'
      )

  @property
  def strides(self) -> tuple[tuple[int, int], ...]:
    """Of each residual block, (frames, bins)."""
    return tuple((1 + i % 2, 2) for i in range(len(self.multipliers)))

  def module(self, name: str, dtype: Any, param_dtype: Any) -> nn.Module:
    return StftDiscriminator(
      config=self, dtype=dtype, param_dtype=param_dtype, name=name
    )


class StftDiscriminator(nn.Module):
  """A convolution, residual blocks, and one logit for all bins of a step.

  Attributes:
    config: Sizes.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  config: StftConfig
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, waveform: Waveform, sample_mask: SampleMask
  ) -> list[Judgement]:
    config = self.config
    options = {
      'weight_norm': config.weight_norm,
      'dtype': self.dtype,
      'param_dtype': self.param_dtype,
    }
    spectrum = complex_planes(
      waveform,
      window_samples=config.window_samples,
      hop_samples=config.hop_samples,
    )[:, :, :-1]
    stride, channels = config.hop_samples, config.channels
    hidden = convolve.Convolution(
      features=channels, kernel_size=(7, 7), name='first', **options
    )(spectrum)
    features = [_layer(hidden, sample_mask, stride)]
    for index, (strides, multiplier) in enumerate(
      zip(config.strides, config.multipliers, strict=True)
    ):
      hidden = ResidualBlock(
        features=multiplier * config.channels,
        strides=strides,
        name=f'block_{index}',
        **options,
      )(hidden)
      stride *= strides[0]
      features.append(_layer(hidden, sample_mask, stride))
    hidden = _leaky_relu(hidden)
    flat = hidden.reshape(*hidden.shape[:2], -1)  # [batch, steps, bins * ch.]
    logits = convolve.Convolution(
      features=1, kernel_size=(1,), name='logits', **options
    )(flat)[..., 0]
    return [Judgement(_layer(logits, sample_mask, stride), tuple(features))]


class ResidualBlock(nn.Module):
  """3x3, then fewer steps and bins of more channels, beside a skip.

  Attributes:
    features: Output channels.
    strides: (frames, bins); the second kernel is two taps longer.
    weight_norm: Whether kernels are stored as direction and norm.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  features: int
  strides: tuple[int, int]
  weight_norm: bool = True
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, hidden: Float[Array, 'batch steps bins channels']
  ) -> Float[Array, 'batch out_steps out_bins features']:
    options = {
      'weight_norm': self.weight_norm,
      'dtype': self.dtype,
      'param_dtype': self.param_dtype,
    }
    inner = convolve.Convolution(
      features=hidden.shape[-1], kernel_size=(3, 3), name='inner', **options
    )(_leaky_relu(hidden))
    outputs = convolve.Convolution(
      features=self.features,
      kernel_size=(self.strides[0] + 2, self.strides[1] + 2),
      strides=self.strides,
      name='down',
      **options,
    )(_leaky_relu(inner))
    steps, bins = outputs.shape[1:3]
    kept = hidden[:, :: self.strides[0], :: self.strides[1]][:, :steps, :bins]
    return outputs + convolve.Convolution(
      features=self.features, kernel_size=(1, 1), name='skip', **options
    )(kept)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiStftConfig:
  """EnCodec's discriminators on the complex STFT, one a window.

  Attributes:
    windows: Samples of each window; the hop is a quarter of it.
    channels: Of every layer.
    dilations: Over frames, of the layers that halve the bins.
    weight_norm: Whether kernels are stored as direction and norm.
  """

  windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
  channels: int = 32
  dilations: tuple[int, ...] = (1, 2, 4)
  weight_norm: bool = True

  def __post_init__(self):
    object.__setattr__(self, 'windows', tuple(self.windows))
    object.__setattr__(self, 'dilations', tuple(self.dilations))

  def module(self, name: str, dtype: Any, param_dtype: Any) -> nn.Module:
    return MultiStftDiscriminators(
      config=self, dtype=dtype, param_dtype=param_dtype, name=name
    )


class MultiStftDiscriminators(nn.Module):
  """Five times the same network, over longer and shorter windows.

  Attributes:
    config: Sizes.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  config: MultiStftConfig
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, waveform: Waveform, sample_mask: SampleMask
  ) -> list[Judgement]:
    return [
      self._judge(window, waveform, sample_mask)
      for window in self.config.windows
    ]

  def _judge(
    self, window: int, waveform: Waveform, sample_mask: SampleMask
  ) -> Judgement:
    config, hop = self.config, window // 4

    def conv(layer: str, features: int, **options: Any) -> nn.Module:
      return convolve.Convolution(
        features=features,
        weight_norm=config.weight_norm,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f'window_{window}_{layer}',
        **options,
      )

    layers = [
      conv('first', config.channels, kernel_size=(3, 9)),
      *(
        conv(
          f'dilated_{dilation}',
          config.channels,
          kernel_size=(3, 9),
          strides=(1, 2),
          dilation=(dilation, 1),
        )
        for dilation in config.dilations
      ),
      conv('last', config.channels, kernel_size=(3, 3)),
    ]
    hidden = complex_planes(waveform, window_samples=window, hop_samples=hop)
    features = []
    for layer in layers:
      hidden = _leaky_relu(layer(hidden))
      features.append(_layer(hidden, sample_mask, hop))
    logits = conv('logits', 1, kernel_size=(3, 3))(hidden)[..., 0]
    return Judgement(_layer(logits, sample_mask, hop), tuple(features))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorsConfig:
  """All that listen together.

  Attributes:
    members: Configs of discriminators, each of one or more networks.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  members: tuple[DiscriminatorConfig, ...]
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    object.__setattr__(self, 'members', tuple(self.members))
    if not self.members:
      raise ValueError('No discriminator is given; at least one is needed.')


class Discriminators(nn.Module):
  """All discriminators of a run, as one.

  Attributes:
    config: Who they are.
  """

  config: DiscriminatorsConfig

  @nn.compact
  def __call__(
    self, waveform: Waveform, sample_mask: SampleMask
  ) -> tuple[Judgement, ...]:
    dtypes = (
      jnp.dtype(dtype) for dtype in (self.config.dtype, self.config.param_dtype)
    )
    dtype, param_dtype = dtypes
    judgements = []
    for index, member in enumerate(self.config.members):
      module = member.module(f'member_{index}', dtype, param_dtype)
      judgements.extend(module(waveform, sample_mask))
    return tuple(judgements)


def halve_rate(waveform: Waveform) -> Float[Array, 'batch halved']:
  """Means of four samples, every two; silence beyond the ends."""
  batch, samples = waveform.shape
  padded = jnp.pad(waveform, ((0, 0), (1, 1 + samples % 2)))
  pairs = jnp.sum(padded.reshape(batch, -1, 2), axis=-1)
  return (pairs[:, :-1] + pairs[:, 1:]) / 4


def complex_planes(
  waveform: Waveform, *, window_samples: int, hop_samples: int
) -> Float[Array, 'batch frames bins 2']:
  """The STFT with real and imaginary part as channels."""
  spectrum = spectral.stft(
    waveform, window_samples=window_samples, hop_samples=hop_samples
  )
  return jnp.stack([spectrum.real, spectrum.imag], axis=-1)


def steps_with_audio(
  sample_mask: SampleMask, *, stride: int, num_steps: int
) -> Bool[Array, 'batch steps']:
  """True at the steps of `stride` samples that hold a valid one."""
  batch, samples = sample_mask.shape
  missing = max(0, num_steps * stride - samples)
  mask = jnp.pad(sample_mask, ((0, 0), (0, missing)))[:, : num_steps * stride]
  return jnp.any(mask.reshape(batch, num_steps, stride), axis=-1)


def _layer(values: jax.Array, sample_mask: SampleMask, stride: int) -> Layer:
  mask = steps_with_audio(sample_mask, stride=stride, num_steps=values.shape[1])
  return Layer(values, mask)


def _leaky_relu(values: jax.Array) -> jax.Array:
  return nn.leaky_relu(values, negative_slope=0.2)


def flatten_features(judgements: Sequence[Judgement]) -> list[Layer]:
  """The internal layers of all, in order."""
  return [layer for judgement in judgements for layer in judgement.features]
