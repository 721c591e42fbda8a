# SPDX-License-Identifier: Apache-2.0
"""The distance of two waveforms over mel spectrograms of many window lengths.

SoundStream (Zeghidour et al., 2021), section III-E, equations 7 and 8: over
windows s = 2^6 ... 2^11, hop s / 4, 64 mels,
|S - S'|_1 + alpha_s |log S - log S'|_2 with alpha_s = sqrt(s / 2).

As printed it is summed over frames and over mels inside the norms, so it grows
with the length of the crop, against adversarial terms that are means. Ours:
means in place of those sums, and still a sum over the windows. The norm of the
logarithms becomes their root mean square over mels. A window whose mels differ
by a factor e then costs alpha_s, 5.7 to 32.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from musiclm_jax import metrics
from musiclm_jax.array_types import SampleMask, Waveform
from musiclm_jax.audio import spectral

# Below it the root mean square is flat, so that its gradient at 0 is 0.
_SMALLEST_SQUARE = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelDistanceConfig:
  """Which spectrograms are compared.

  Attributes:
    windows: Samples of each window.
    num_mels: Filters, at every window.
  """

  windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
  num_mels: int = 64

  def __post_init__(self):
    object.__setattr__(self, 'windows', tuple(self.windows))


def mel_distance(
  real: Waveform,
  fake: Waveform,
  *,
  sample_mask: SampleMask,
  sample_rate_hz: int,
  config: MelDistanceConfig,
) -> dict[int, metrics.WeightedMean]:
  """The terms of the distance, by window; their sum of means is the loss.

  Args:
    real: The original.
    fake: Its reconstruction.
    sample_mask: True over audio; a frame of padding alone does not count.
    sample_rate_hz: Of both.
    config: Which spectrograms are compared.

  Returns:
    For each window the mean over frames of both norms together.
  """
  terms = {}
  for window in config.windows:
    mel = spectral.MelConfig(
      sample_rate_hz=sample_rate_hz,
      window_samples=window,
      hop_samples=window // 4,
      num_mels=config.num_mels,
    )
    real_mels = spectral.mel_spectrogram(real, config=mel)
    fake_mels = spectral.mel_spectrogram(fake, config=mel)
    absolute = jnp.mean(jnp.abs(real_mels - fake_mels), axis=-1)
    logs = jnp.log(real_mels + mel.floor) - jnp.log(fake_mels + mel.floor)
    square = jnp.mean(logs**2, axis=-1)
    distance = jnp.sqrt(jnp.maximum(square, _SMALLEST_SQUARE))
    terms[window] = metrics.WeightedMean.of(
      absolute + math.sqrt(window / 2) * distance,
      mel.frame_mask(sample_mask),
    )
  return terms
