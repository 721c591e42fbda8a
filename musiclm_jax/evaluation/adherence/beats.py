# SPDX-License-Identifier: Apache-2.0
"""Tempo and meter of a clip, from librosa's onset strength.

The tempo is right within 8 %, with or without forgiveness for half, double, a
third or three times of it: what people, too, may take for the beat. It is
librosa's `feature.tempo`, the strongest period of the onset strength with a
preference for 120 beats a minute. The meter is asked of the music at the stated
tempo: whether its beats fall into three or two (6/8 and 9/8, or 2/4 and 3/4), and
its bars into three beats or two and four (3/4 and 9/8, or 2/4 and 6/8). So beats
a minute are those of the beat, a dotted quarter note in 6/8. Tolerance and both
questions are ours.

Shapes: likeness [lags], the autocorrelation of the onset strength, 11.6 ms each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import librosa
import numpy as np
from jaxtyping import Float

TOLERANCE = 0.08
_OCTAVES = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_SAMPLE_RATE_HZ = 22_050
_HOP_SAMPLES = 256
_SLACK_FRAMES = 2  # Notes are a little early or late.

Likeness = Float[np.ndarray, ' lags']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beats:
  """What was heard in a clip.

  Attributes:
    tempo_bpm: Beats a minute; 0 where nothing begins.
    likeness: Of the onset strength to itself, so many frames later.
  """

  tempo_bpm: float
  likeness: Likeness


def listen(
  waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
) -> Beats:
  """Tempo and meter of a clip."""
  strength = librosa.onset.onset_strength(
    y=librosa.resample(
      waveform, orig_sr=sample_rate_hz, target_sr=_SAMPLE_RATE_HZ
    ),
    sr=_SAMPLE_RATE_HZ,
    hop_length=_HOP_SAMPLES,
  )
  if not strength.any():
    return Beats(tempo_bpm=0.0, likeness=np.zeros(len(strength)))
  tempo = librosa.feature.tempo(
    onset_envelope=strength, sr=_SAMPLE_RATE_HZ, hop_length=_HOP_SAMPLES
  )
  return Beats(tempo_bpm=float(tempo[0]), likeness=_likeness(strength))


def is_tempo(heard_bpm: float, wanted_bpm: float, *, octaves: bool) -> float:
  """1 if the tempo is right within the tolerance."""
  factors = _OCTAVES if octaves else (1.0,)
  return float(
    any(
      abs(heard_bpm / (wanted_bpm * factor) - 1) <= TOLERANCE
      for factor in factors
    )
  )


def is_division(heard: Beats, meter: str, *, tempo_bpm: float) -> float:
  """1 if beats of this tempo fall into three, or into two, as in the meter."""
  half, *thirds = _after(heard, (1 / 2, 1 / 3, 2 / 3), tempo_bpm=tempo_bpm)
  return _agree(np.mean(thirds) - half, is_three=_upper(meter) in (6, 9, 12))


def is_bar(heard: Beats, meter: str, *, tempo_bpm: float) -> float:
  """1 if bars have three beats of this tempo, or two or four, as in the meter."""
  two, four, *three = _after(heard, (2, 4, 3, 6), tempo_bpm=tempo_bpm)
  return _agree(sum(three) - two - four, is_three=_upper(meter) in (3, 9))


def _after(
  heard: Beats, beats: Sequence[float | int], *, tempo_bpm: float
) -> list[float]:
  """How like itself the clip is after so many beats."""
  frames = 60 / tempo_bpm * _SAMPLE_RATE_HZ / _HOP_SAMPLES
  near = np.arange(-_SLACK_FRAMES, _SLACK_FRAMES + 1)
  lags = np.round(np.array(beats) * frames).astype(int)
  padded = np.pad(heard.likeness, (0, 1))  # Nothing is known beyond the clip.
  return [
    float(padded[np.clip(lag + near, 0, len(padded) - 1)].max()) for lag in lags
  ]


def _agree(evidence: float, *, is_three: bool) -> float:
  """0 where there is no evidence either way, as of silence."""
  return float(evidence > 0 if is_three else evidence < 0)


def _upper(meter: str) -> int:
  return int(meter.split('/')[0])


def _likeness(strength: Float[np.ndarray, ' frames']) -> Likeness:
  """Autocorrelation by lag, 1 at lag 0, each lag over what overlaps."""
  centered = strength - strength.mean()
  spectrum = np.abs(np.fft.rfft(centered, 2 * len(centered))) ** 2
  products = np.fft.irfft(spectrum)[: len(centered)]
  products /= np.arange(len(centered), 0, -1)
  return products / max(products[0], np.finfo(np.float64).tiny)
