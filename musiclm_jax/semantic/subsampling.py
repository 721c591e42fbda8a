# SPDX-License-Identifier: Apache-2.0
"""Waveform to frames: log-mel at 100 Hz, then two convolutions of stride 2.

w2v-BERT (Chung et al., 2021), section 3.1: 80 log-mel bins, two 2-D
convolutions of strides (2, 2). Window, channels, activation and the fixed
standardisation of the log-mel are ours: the window is longer than speech has
it, since low notes are closer to each other than formants.

Frame k is valid if the sample that it begins with is: a clip of n samples has
ceil(n / hop) frames, whatever it is padded to. Each layer reads zeros beyond
the last valid step, so that padding changes nothing.

Shapes: waveform [batch, samples] to [batch, frames, embed].
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from musiclm_jax import axes
from musiclm_jax.array_types import FrameMask, Latents, SampleMask, Waveform
from musiclm_jax.audio import spectral
from musiclm_jax.layers import convolve, dense, normalization

_STRIDES = (2, 2)

# About those of music at its usual loudness; the norm after the convolutions
# sees to the rest.
_LOG_MEL_MEAN = -4.6
_LOG_MEL_DEVIATION = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsamplingConfig:
  """Sizes of what comes before the Conformers.

  Attributes:
    sample_rate_hz: Of the waveform.
    mel_hop_samples: From one mel frame to the next.
    mel_window_samples: Of the spectrum's window.
    num_mels: Mel filters.
    channels: Of both convolutions.
  """

  sample_rate_hz: int = 16_000
  mel_hop_samples: int = 160
  mel_window_samples: int = 1024
  num_mels: int = 80
  channels: int = 32

  @property
  def hop_samples(self) -> int:
    """Samples of one frame."""
    stride, _ = _STRIDES
    return self.mel_hop_samples * stride * stride

  @property
  def mel(self) -> spectral.MelConfig:
    return spectral.MelConfig(
      sample_rate_hz=self.sample_rate_hz,
      window_samples=self.mel_window_samples,
      hop_samples=self.mel_hop_samples,
      num_mels=self.num_mels,
    )

  def frame_mask(self, sample_mask: SampleMask) -> FrameMask:
    """True at the frames that begin with a valid sample."""
    return sample_mask[:, :: self.hop_samples]


class Subsampling(nn.Module):
  """Log-mel, two convolutions, a projection and a norm.

  Attributes:
    config: Sizes.
    embed_dim: Width of the frames.
    dtype: Compute type; the log-mel is at least float32.
    param_dtype: Stored type.
  """

  config: SubsamplingConfig
  embed_dim: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, waveform: Waveform, *, sample_mask: SampleMask) -> Latents:
    config = self.config
    types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    mels = spectral.log_mel(
      jnp.where(sample_mask, waveform, 0), config=config.mel
    )
    mels = (mels - _LOG_MEL_MEAN) / _LOG_MEL_DEVIATION
    valid = sample_mask[:, :: config.mel_hop_samples]
    hidden = jnp.where(valid[:, :, None], mels, 0)
    hidden = hidden[..., None]  # [batch, mel frames, mels, 1]
    for index in range(2):
      hidden = convolve.Convolution(
        features=config.channels,
        kernel_size=(3, 3),
        strides=_STRIDES,
        weight_norm=False,
        name=f'convolution_{index}',
        **types,
      )(hidden)
      valid = valid[:, :: _STRIDES[0]]
      hidden = jnp.where(valid[:, :, None, None], jax.nn.silu(hidden), 0)
    # [batch, frames, mels / 4, channels]
    frames = dense.DenseGeneral(
      features=(self.embed_dim,),
      axes=(axes.EMBED, None, axes.MLP),
      num_inputs=2,
      name='project',
      **types,
    )(hidden)
    return normalization.LayerNorm(name='norm', **types)(frames)
