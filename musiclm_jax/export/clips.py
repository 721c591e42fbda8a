# SPDX-License-Identifier: Apache-2.0
"""The clips that both sides are compared on.

Shapes: a clip is [samples], a batch of them [clips, samples].
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from musiclm_jax.audio import resample

# Added to every clip, 60 dB below full scale. In a band without any sound a
# log-mel is that of the FFT's rounding, in which no two libraries agree.
_NOISE = 1e-3

_SYNTHETIC_RATE_HZ = 24_000
_SYNTHETIC_SECONDS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips:
  """Clips of any length and rate.

  Attributes:
    waveforms: One a clip.
    rates_hz: Of each.
    about: What they are, in words.
  """

  waveforms: tuple[np.ndarray, ...]
  rates_hz: tuple[int, ...]
  about: str

  def __post_init__(self):
    if not self.waveforms or min(map(len, self.waveforms)) == 0:
      raise ValueError('There are no clips, or empty ones, to compare on.')

  def batch(
    self, *, sample_rate_hz: int, num_samples: int
  ) -> Float[np.ndarray, 'clips samples']:
    """The beginning of each, at one rate, over faint noise.

    A shorter one is repeated.
    """
    rows = []
    for waveform, rate_hz in zip(self.waveforms, self.rates_hz, strict=True):
      needed = -(-num_samples * rate_hz // sample_rate_hz) + 1
      row = resample.resample(
        np.resize(waveform.astype(np.float32), needed),
        from_hz=rate_hz,
        to_hz=sample_rate_hz,
      )
      rows.append(row[:num_samples])
    batch = np.stack(rows)
    noise = np.random.default_rng(0).normal(0, _NOISE, batch.shape)
    return batch + noise.astype(np.float32)


def synthetic() -> Clips:
  """A chirp over noise, for those who have no clip at hand."""
  rng = np.random.default_rng(0)
  seconds = np.arange(_SYNTHETIC_SECONDS * _SYNTHETIC_RATE_HZ)
  seconds = seconds / _SYNTHETIC_RATE_HZ
  # From 80 Hz to 8 kHz, evenly in octaves.
  rate = np.log(100) / _SYNTHETIC_SECONDS
  chirp = np.sin(2 * np.pi * 80 * np.expm1(rate * seconds) / rate)
  noise = rng.normal(size=len(seconds))
  waveform = (0.3 * chirp + 0.03 * noise).astype(np.float32)
  return Clips(
    waveforms=(waveform,),
    rates_hz=(_SYNTHETIC_RATE_HZ,),
    about='a synthetic clip: a chirp from 80 Hz to 8 kHz over noise',
  )
