# SPDX-License-Identifier: Apache-2.0
"""MuLan's audio tower: log-mel, a body, a linear map, a unit vector.

MuLan (Huang et al., 2022), section 3.1: 10 s as 1000 frames of 64 (ResNet-50)
or 128 (AST) mels. The papers give no window; ours is 64 ms, so that every
filter holds a bin. Ours too: one mean and scale for all log-mels, so that how
loud a clip is can be heard.

Shapes: [batch, samples] and mask in, [batch, embed] of length one out.
"""

from __future__ import annotations

import dataclasses
import fractions
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from flax import linen as nn
from jax import ad_checkpoint
from jaxtyping import Float

from musiclm_jax.array_types import Array, SampleMask, Waveform
from musiclm_jax.audio import spectral
from musiclm_jax.mulan import projection, spec_augment

# What a backward pass may keep where it computes the rest again: small, and
# dear to make.
FEATURES = 'mulan_features'


@runtime_checkable
class BodyConfig(Protocol):
  """What a body's config offers: `resnet`, `vision_transformer`, or yours.

  Attributes:
    types: `dtype` and `param_dtype` of its layers.
  """

  def make(self, *, name: str) -> nn.Module:
    """A module of (features, frame_mask) that gives [batch, width]."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioTowerConfig:
  """What the tower hears and what hears it.

  Attributes:
    mel: The spectrogram; its sample rate is the tower's.
    body: Sizes of what reads it.
    window_seconds: Of one embedding.
    mean: Taken off the log-mels; the default is of the default data.
    scale: What is left is divided by it, likewise.
    augment: What is hidden in training; None for nothing.
  """

  mel: spectral.MelConfig
  body: BodyConfig
  window_seconds: int | float = 10
  mean: float = -4.0
  scale: float = 2.0
  augment: spec_augment.SpecAugmentConfig | None = (
    spec_augment.SpecAugmentConfig()
  )

  def __post_init__(self):
    samples = self._window
    if samples.denominator != 1:
      raise ValueError(
        f'A window of {self.window_seconds} s is {float(samples):g} samples at'
        f' {self.mel.sample_rate_hz} Hz; choose a whole number.'
      )

  @property
  def window_samples(self) -> int:
    """Samples of one embedding."""
    return int(self._window)

  @property
  def _window(self) -> fractions.Fraction:
    seconds = fractions.Fraction(str(self.window_seconds))
    return seconds * self.mel.sample_rate_hz


class AudioTower(nn.Module):
  """Waveforms to points of the joint space.

  Attributes:
    config: Sizes.
    embed_dim: Of the joint space.
  """

  config: AudioTowerConfig
  embed_dim: int

  @nn.compact
  def __call__(
    self,
    waveform: Waveform,
    *,
    sample_mask: SampleMask,
    draws: Float[Array, 'batch bands 2'] | None = None,
  ) -> Float[Array, 'batch embed']:
    """Embeds one window a row.

    Args:
      waveform: At the rate of the config.
      sample_mask: False over padding.
      draws: What is hidden, from `spec_augment.draw`; None hides nothing.
    """
    config = self.config
    frame_mask = config.mel.frame_mask(jnp.asarray(sample_mask))
    features = spectral.log_mel(
      jnp.where(sample_mask, waveform, 0), config=config.mel
    )
    features = (features - config.mean) / config.scale
    features = jnp.where(frame_mask[:, :, None], features, 0)
    features = ad_checkpoint.checkpoint_name(features, FEATURES)
    if draws is not None:
      features = spec_augment.hide(features, draws, config=config.augment)
    pooled = config.body.make(name='body')(
      features, frame_mask=frame_mask
    )  # [batch, width]
    return projection.Projection(
      self.embed_dim, name='projection', **config.body.types
    )(pooled)
