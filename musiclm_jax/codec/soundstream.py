# SPDX-License-Identifier: Apache-2.0
"""SoundStream: waveform to residual codes and back, causal throughout.

Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec" (2021),
section III and figure 3. Where the paper is silent we take weight normalization
and an ELU before every convolution but the first, as Défossez et al., "High
Fidelity Neural Audio Compression" (2022), section 3.1 do.

Shapes: waveform is [batch, samples], latents [batch, frames, embed], codes
[batch, frames, levels]; samples = frames * hop.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import (
  Array,
  Codes,
  FrameMask,
  Latents,
  PRNGKey,
  SampleMask,
  Variables,
  Waveform,
)
from musiclm_jax.codec import chunked
from musiclm_jax.layers import convolution
from musiclm_jax.quantization import residual
from musiclm_jax.streams import TokenStream

_DILATIONS = (1, 3, 9)
_ENCODER = 'encoder'  # among the parameters, as `SoundStream.setup` names it
_ACTIVATION_AXES = (axes.BATCH, axes.FRAMES, axes.CHANNELS_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundStreamConfig:
  """Sizes of one SoundStream codec.

  Attributes:
    sample_rate_hz: Rate of the waveform.
    channels: Width at the rate of the waveform (C); doubles at every stride.
    strides: Downsampling of each encoder block, first to last.
    embed_dim: Width of the latents (D).
    quantizer: Levels and codebooks.
    weight_norm: Whether kernels are stored as direction and norm.
    dtype: Compute type; codebooks are float32 whatever it is.
    param_dtype: Stored type.
    remat: Whether a training step computes each block's activations again
      instead of keeping them.
  """

  sample_rate_hz: int
  channels: int
  strides: tuple[int, ...]
  embed_dim: int
  quantizer: residual.ResidualQuantizerConfig
  weight_norm: bool = True
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False

  def __post_init__(self):
    # gin hands lists over.
    object.__setattr__(self, 'strides', tuple(self.strides))
    if not self.strides or min(self.strides) < 1:
      raise ValueError(
        f'strides {self.strides} are not whole numbers above 0, one a block.'
      )

  @property
  def hop_samples(self) -> int:
    """Samples of one frame."""
    return math.prod(self.strides)

  @property
  def stream(self) -> TokenStream:
    """The codes it makes."""
    return TokenStream(
      name='acoustic',
      rate_hz=fractions.Fraction(self.sample_rate_hz, self.hop_samples),
      num_codebooks=self.quantizer.num_levels,
      codebook_size=self.quantizer.codebook_size,
    )

  def make_codec(
    self, weights: Variables, *, stream: TokenStream
  ) -> SoundStreamCodec:
    """A codec to encode and decode with, or only to decode.

    Args:
      weights: All, or what `decoding_weights` gives.
      stream: The codes it makes.
    """
    weights = dict(weights)
    if self.weight_norm:  # Once, instead of in every call.
      weights['params'] = convolution.fold_weight_norm(weights['params'])
    return SoundStreamCodec(
      SoundStream(dataclasses.replace(self, weight_norm=False)),
      weights,
      stream=stream,
      sample_rate_hz=self.sample_rate_hz,
      hop_samples=self.hop_samples,
      can_encode=_ENCODER in weights['params'],
    )

  def decoding_weights(self, weights: Variables) -> Variables:
    """Those that decoding needs."""
    params = weights['params'].items()
    kept = {name: leaves for name, leaves in params if name != _ENCODER}
    return {**weights, 'params': kept}

  @property
  def conv_options(self) -> dict[str, Any]:
    """What all convolutions share."""
    return {
      'weight_norm': self.weight_norm,
      'dtype': jnp.dtype(self.dtype),
      'param_dtype': jnp.dtype(self.param_dtype),
    }


@flax.struct.dataclass
class Reconstruction:
  """What a training batch became.

  Attributes:
    waveform: As long as the input.
    quantized: Codes, commitment loss and codebook figures.
  """

  waveform: Waveform
  quantized: residual.Quantized


class SoundStreamCodec(chunked.ChunkedCodec):
  """A SoundStream with its weights."""

  @property
  def codebooks(self) -> Float[np.ndarray, 'levels codes embed']:
    """The vectors that are summed up to a frame's latent."""
    return np.asarray(
      self._variables['codebooks']['quantizer']['embeddings'], np.float32
    )


class SoundStream(nn.Module):
  """Encoder, residual quantizer and decoder.

  Attributes:
    config: Sizes.
  """

  config: SoundStreamConfig

  def setup(self) -> None:
    self.encoder = Encoder(self.config)
    self.quantizer = residual.ResidualQuantizer(
      self.config.quantizer,
      embed_dim=self.config.embed_dim,
      param_dtype=jnp.dtype(self.config.param_dtype),
    )
    self.decoder = Decoder(self.config)

  def __call__(
    self,
    waveform: Waveform,
    *,
    key: PRNGKey,
    sample_mask: SampleMask | None = None,
  ) -> Reconstruction:
    """Reconstructs a training batch.

    Args:
      waveform: A global batch, a whole number of hops long.
      key: Draws quantizer dropout and what the codebooks draw.
      sample_mask: True over audio, False over padding.

    Returns:
      The reconstruction. With `residual.CODEBOOKS` mutable the codebooks move.
    """
    frame_mask = None
    if sample_mask is not None:
      frame_mask = frames_with_audio(
        sample_mask, hop_samples=self.config.hop_samples
      )
    quantized = self.quantizer(self.encoder(waveform), key=key, mask=frame_mask)
    return Reconstruction(self.decoder(quantized.latents), quantized)

  def encode(
    self, waveform: Waveform, *, num_levels: int | None = None
  ) -> Codes:
    """The codes of a waveform of whole hops, of all levels if not told."""
    return self.quantizer.encode(self.encoder(waveform), num_levels=num_levels)

  def dequantize(self, codes: Codes) -> Latents:
    """The latents of codes of any number of levels."""
    return self.quantizer.decode(codes)

  def synthesize(self, latents: Latents) -> Waveform:
    """The waveform of latents."""
    return self.decoder(latents)

  def decode(self, codes: Codes) -> Waveform:
    """The waveform of codes of any number of levels."""
    return self.synthesize(self.dequantize(codes))


class Encoder(nn.Module):
  """Waveform to latents, one frame a hop.

  Attributes:
    config: Sizes.
  """

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, waveform: Waveform) -> Latents:
    config = self.config
    block = nn.remat(EncoderBlock) if config.remat else EncoderBlock
    _require_whole_hops(waveform.shape[1], config.hop_samples)
    features = config.channels
    hidden = convolution.CausalConv(
      features=features, kernel_size=7, name='first', **config.conv_options
    )(waveform[..., None])
    for index, stride in enumerate(config.strides):
      features *= 2
      hidden = block(
        config=config,
        features=features,
        stride=stride,
        name=f'block_{index}',
      )(hidden)
    return convolution.CausalConv(
      features=config.embed_dim,
      kernel_size=3,
      name='last',
      **config.conv_options,
    )(convolution.elu(hidden))


class Decoder(nn.Module):
  """Latents to waveform, the encoder's mirror image.

  Attributes:
    config: Sizes.
  """

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, latents: Latents) -> Waveform:
    config = self.config
    block = nn.remat(DecoderBlock) if config.remat else DecoderBlock
    features = config.channels * 2 ** len(config.strides)
    hidden = convolution.CausalConv(
      features=features, kernel_size=7, name='first', **config.conv_options
    )(latents)
    for index, stride in enumerate(reversed(config.strides)):
      features //= 2
      hidden = block(
        config=config,
        features=features,
        stride=stride,
        name=f'block_{index}',
      )(hidden)
    waveform = convolution.CausalConv(
      features=1, kernel_size=7, name='last', **config.conv_options
    )(convolution.elu(hidden))
    # Losses and spectra of the waveform are float32 whatever computed it.
    return waveform[..., 0].astype(metrics.accumulation_dtype(waveform.dtype))


class EncoderBlock(nn.Module):
  """Three residual units, then fewer frames of more channels.

  Attributes:
    config: Sizes.
    features: Output channels.
    stride: Input steps an output step.
  """

  config: SoundStreamConfig
  features: int
  stride: int

  @nn.compact
  def __call__(
    self, hidden: Float[Array, 'batch time channels_in']
  ) -> Float[Array, 'batch out_time channels_out']:
    hidden = _residual_units(self.config, hidden)
    hidden = convolution.CausalConv(
      features=self.features,
      kernel_size=2 * self.stride,
      stride=self.stride,
      name='down',
      **self.config.conv_options,
    )(convolution.elu(hidden))
    return nn.with_logical_constraint(hidden, _ACTIVATION_AXES)


class DecoderBlock(nn.Module):
  """More frames of fewer channels, then three residual units.

  Attributes:
    config: Sizes.
    features: Output channels.
    stride: Output steps an input step.
  """

  config: SoundStreamConfig
  features: int
  stride: int

  @nn.compact
  def __call__(
    self, hidden: Float[Array, 'batch time channels_in']
  ) -> Float[Array, 'batch out_time channels_out']:
    hidden = convolution.CausalTransposedConv(
      features=self.features,
      kernel_size=2 * self.stride,
      stride=self.stride,
      name='up',
      **self.config.conv_options,
    )(convolution.elu(hidden))
    hidden = _residual_units(self.config, hidden)
    return nn.with_logical_constraint(hidden, _ACTIVATION_AXES)


def _residual_units(
  config: SoundStreamConfig, hidden: Float[Array, 'batch time channels']
) -> Float[Array, 'batch time channels']:
  """Called in a block's compact method, which owns the convolutions."""
  features = hidden.shape[-1]
  for dilation in _DILATIONS:
    inner = convolution.CausalConv(
      features=features,
      kernel_size=7,
      dilation=dilation,
      name=f'dilated_{dilation}',
      **config.conv_options,
    )(convolution.elu(hidden))
    hidden = hidden + convolution.CausalConv(
      features=features,
      kernel_size=1,
      name=f'mix_{dilation}',
      **config.conv_options,
    )(convolution.elu(inner))
  return hidden


def frames_with_audio(
  sample_mask: SampleMask, *, hop_samples: int
) -> FrameMask:
  """True for the frames that hold any audio at all."""
  batch, samples = sample_mask.shape
  _require_whole_hops(samples, hop_samples)
  return jnp.any(sample_mask.reshape(batch, -1, hop_samples), axis=-1)


def _require_whole_hops(samples: int, hop_samples: int) -> None:
  if samples % hop_samples:
    raise ValueError(
      f'A waveform of whole hops of {hop_samples} samples is wanted, not of'
      f' {samples} samples; pad it to'
      f' {-(-samples // hop_samples) * hop_samples}.'
    )
