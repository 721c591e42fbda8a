# SPDX-License-Identifier: Apache-2.0
"""Whether there is music at all: level, silence, clipping, flatness.

Beside FAD, since near-silence may have a better one than music with some noise.
Ours throughout; the figures are of the file as it is, mixed down, before any
resampling.

Shapes: waveform [samples].
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.signal
from jaxtyping import Float

_FRAME_SECONDS = 0.05
_SILENT_DB = -60.0  # Below full scale.
_FULL_SCALE = 0.999  # One step of 16 bits below 1 counts as clipped.
_WINDOW_SAMPLES = 1_024
_FLOOR = 1e-12  # In power; digital silence has -120 dB.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelFigures:
  """Of one clip.

  Attributes:
    rms_db: Relative to full scale; a full-scale sine has -3.
    silent_share: Of its frames of 50 ms, those below -60 dB.
    clipped_share: Of its samples, those at full scale.
    flatness: Of its spectrum, geometric over arithmetic mean of power from
      frame to frame, over frames that are not silent: 1 for a flat one (white
      noise has 0.56), 0 for a tone; NaN for silence.
  """

  rms_db: float
  silent_share: float
  clipped_share: float
  flatness: float


def measure(
  waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
) -> LevelFigures:
  """The figures of a clip of at least one sample."""
  waveform = np.asarray(waveform, np.float64)
  if not waveform.size:
    raise ValueError('A clip without samples has no level.')
  frame = min(waveform.size, round(_FRAME_SECONDS * sample_rate_hz))
  whole = waveform[: waveform.size // frame * frame].reshape(-1, frame)
  levels = _decibels(np.mean(whole**2, axis=1))
  return LevelFigures(
    rms_db=float(_decibels(np.mean(waveform**2))),
    silent_share=float(np.mean(levels < _SILENT_DB)),
    clipped_share=float(np.mean(np.abs(waveform) >= _FULL_SCALE)),
    flatness=_flatness(waveform),
  )


def _flatness(waveform: Float[np.ndarray, ' samples']) -> float:
  window = scipy.signal.get_window('hann', _WINDOW_SAMPLES)
  if waveform.size < _WINDOW_SAMPLES:
    waveform = np.pad(waveform, (0, _WINDOW_SAMPLES - waveform.size))
  frames = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW_SAMPLES)
  frames = frames[:: _WINDOW_SAMPLES // 2]
  frames = frames[_decibels(np.mean(frames**2, axis=1)) >= _SILENT_DB]
  if not len(frames):
    return float('nan')
  power = np.abs(np.fft.rfft(frames * window)) ** 2 + _FLOOR
  ratios = np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)
  return float(np.mean(ratios))


def _decibels(power: np.ndarray | float) -> np.ndarray | float:
  return 10 * np.log10(np.maximum(power, _FLOOR))
