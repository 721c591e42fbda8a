# SPDX-License-Identifier: Apache-2.0
"""Tiny audio files to build data sets of."""

import pathlib

import numpy as np
import soundfile

RATE_HZ = 16000


def write_tone(
  path: pathlib.Path, *, pitch_hz: float = 211, seconds: float = 1.5
) -> None:
  """A stereo sine; its channels differ, their mean has half the level."""
  path.parent.mkdir(parents=True, exist_ok=True)
  time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
  left = 0.5 * np.sin(2 * np.pi * pitch_hz * time_s)
  soundfile.write(path, np.stack([left, 0 * left], axis=1), RATE_HZ)


def pitch_hz(clip) -> float:
  spectrum = np.abs(np.fft.rfft(clip.waveform))
  return float(spectrum.argmax() * clip.sample_rate_hz / len(clip.waveform))
