# SPDX-License-Identifier: Apache-2.0
"""Spectrograms side by side, to see what a codec loses, and curves of runs.

Spectrograms are power in decibels against one common maximum, so that pictures
compare.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import matplotlib
import numpy as np
import scipy.signal
from jaxtyping import Float
from matplotlib import figure as figures
from matplotlib.backends import backend_agg

_WINDOW_SAMPLES = 1024
_HOP_SAMPLES = 256
_RANGE_DB = 80.0
_FLOOR = 1e-12  # Below any dither; keeps silence from -inf dB.


def save_spectrograms(
  waveforms: Mapping[str, Float[np.ndarray, ' samples']],
  *,
  sample_rate_hz: int,
  path: str | os.PathLike[str],
) -> None:
  """Draws one spectrogram a row, titled by its key, into a picture file.

  Args:
    waveforms: By title, of one length or not.
    sample_rate_hz: Of all of them.
    path: Ends in .png, .svg or another type that matplotlib writes.
  """
  if not waveforms:
    raise ValueError('There is no waveform to draw; give at least 1.')
  powers = {
    title: spectrogram_db(waveform, sample_rate_hz=sample_rate_hz)
    for title, waveform in waveforms.items()
  }
  loudest = max(float(power.max()) for power in powers.values())
  # Without pyplot: no global state, and no display is looked for.
  figure = figures.Figure(figsize=(9, 1.9 * len(powers)), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  panels = figure.subplots(len(powers), 1, sharex=True, squeeze=False)[:, 0]
  for panel, (title, power) in zip(panels, powers.items()):
    image = panel.imshow(
      power,
      origin='lower',
      aspect='auto',
      extent=(
        0,
        waveforms[title].size / sample_rate_hz,
        0,
        sample_rate_hz / 2000,
      ),
      vmin=loudest - _RANGE_DB,
      vmax=loudest,
      cmap=matplotlib.colormaps['magma'],
    )
    panel.set_title(title, fontsize=9, loc='left')
    panel.set_ylabel('kHz')
  panels[-1].set_xlabel('seconds')
  figure.colorbar(image, ax=list(panels), label='dB')
  figure.savefig(path, dpi=110)


def save_curves(
  curves: Mapping[str, Mapping[int, float]],
  *,
  path: str | os.PathLike[str],
) -> None:
  """Draws figures by step into one panel.

  Args:
    curves: By label, a figure at each step.
    path: Ends in .png, .svg or another type that matplotlib writes.
  """
  figure = figures.Figure(figsize=(7, 4), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  panel = figure.subplots()
  for label, curve in curves.items():
    panel.plot(list(curve), list(curve.values()), label=label)
  panel.set_xlabel('steps')
  panel.legend()
  panel.grid(alpha=0.3)
  figure.savefig(path, dpi=110)


def spectrogram_db(
  waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
) -> Float[np.ndarray, 'bins frames']:
  """Power by frequency and time, in decibels; silence fills a window."""
  window = scipy.signal.get_window('hann', _WINDOW_SAMPLES)
  transform = scipy.signal.ShortTimeFFT(
    window, hop=_HOP_SAMPLES, fs=sample_rate_hz, scale_to='magnitude'
  )
  waveform = np.asarray(waveform, np.float64)
  missing = max(0, _WINDOW_SAMPLES - waveform.size)
  power = np.abs(transform.stft(np.pad(waveform, (0, missing)))) ** 2
  return 10 * np.log10(np.maximum(power, _FLOOR))
