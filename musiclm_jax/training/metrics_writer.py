# SPDX-License-Identifier: Apache-2.0
"""Figures of a run on disk: metrics.jsonl, and TensorBoard events beside it.

Both hold the same figures. A line of metrics.jsonl is one JSON object: 'step',
'seconds' since the epoch, and figures by name; one that is not finite is null.
When a run goes on from a checkpoint, lines beyond it are taken back, so a step
is not in the file twice.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
import numpy as np
import scipy.signal
import tensorboardX
from jaxtyping import Float, UInt8

from musiclm_jax.checkpoints import text_file
from musiclm_jax.checkpoints.buckets import Mirror

FILE_NAME = 'metrics.jsonl'

# A bucket is written to no more often, but for checkpoints.
_SECONDS_BETWEEN_COPIES = 60.0

_WINDOW_SAMPLES = 1024
_RANGE_DB = 80.0


class MetricsWriter:
  """Writes the figures of one run; does nothing where it is not `active`."""

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    resumed_step: int = 0,
    active: bool = True,
  ):
    """Opens the files, made if absent.

    Args:
      directory: Usually `<model_dir>/metrics`; may be in a bucket.
      resumed_step: Figures of later steps, from a run that was cut off, go.
      active: False in every process but the first.
    """
    self._active = active
    if not active:
      return
    self._mirror = Mirror(directory)
    self._mirror.pull(FILE_NAME)
    path = self._mirror.local / FILE_NAME
    self._resumed_step = resumed_step
    self._already = _take_back(path, beyond=resumed_step)
    self._lines = path.open('a', encoding='utf-8')
    self._events = tensorboardX.SummaryWriter(
      str(self._mirror.local), purge_step=resumed_step + 1
    )

  def __enter__(self) -> MetricsWriter:
    return self

  def __exit__(self, *unused_error: Any) -> None:
    if self._active:
      self._lines.close()
      self._events.close()
      self._mirror.close()

  def scalars(self, step: int, figures: Mapping[str, float]) -> None:
    """Writes figures, all of one step; none that it has of that step."""
    if not self._active:
      return
    figures = {name: float(value) for name, value in figures.items()}
    if step == self._resumed_step:
      # A run that has finished and is started again is evaluated again.
      figures = {k: v for k, v in figures.items() if k not in self._already}
      if not figures:
        return
    line = {'step': step, 'seconds': round(time.time(), 3)}
    for name, value in figures.items():
      line[name] = value if math.isfinite(value) else None
      self._events.add_scalar(name, value, step)
    self._lines.write(json.dumps(line) + '\n')
    self._lines.flush()
    self._mirror.push_if_due(every_seconds=_SECONDS_BETWEEN_COPIES)

  def flush(self) -> None:
    """Returns when every figure is where a run that resumes looks for it."""
    if self._active:
      self._events.flush()
      self._mirror.push()

  def waveforms(
    self,
    step: int,
    waveforms: Mapping[str, Float[np.ndarray, 'batch samples']],
    *,
    sample_rate_hz: int,
  ) -> None:
    """Writes audio, and a spectrogram of each, to TensorBoard."""
    if not self._active:
      return
    for name, batch in waveforms.items():
      for row, waveform in enumerate(np.asarray(batch, np.float32)):
        clipped = np.clip(waveform, -1, 1)
        self._events.add_audio(
          f'{name}/{row}', clipped, step, sample_rate=sample_rate_hz
        )
        self._events.add_image(
          f'{name}/{row}', _picture(clipped), step, dataformats='HWC'
        )
    self._events.flush()


def read(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
  """Yields the lines of a metrics.jsonl; one that was cut off ends it."""
  with open(path, encoding='utf-8') as lines:
    for line in lines:
      try:
        yield json.loads(line)
      except json.JSONDecodeError:
        return


def _take_back(path: pathlib.Path, *, beyond: int) -> set[str]:
  """Rewrites the file without the steps beyond one, and without half lines.

  Returns:
    Names of the figures of the last step that stays.
  """
  if not path.exists():
    return set()
  kept = [line for line in read(path) if line['step'] <= beyond]
  text_file.write(path, ''.join(f'{json.dumps(line)}\n' for line in kept))
  return {name for line in kept if line['step'] == beyond for name in line}


def _picture(
  waveform: Float[np.ndarray, ' samples'],
) -> UInt8[np.ndarray, 'bins frames 3']:
  """A spectrogram, low frequencies at the bottom."""
  transform = scipy.signal.ShortTimeFFT(
    scipy.signal.get_window('hann', _WINDOW_SAMPLES),
    hop=_WINDOW_SAMPLES // 4,
    fs=1,
    scale_to='magnitude',
  )
  power = np.abs(transform.stft(waveform.astype(np.float64))) ** 2
  decibels = 10 * np.log10(np.maximum(power, 1e-12))
  shade = 1 + (decibels - decibels.max()) / _RANGE_DB
  colours = matplotlib.colormaps['magma'](np.clip(shade[::-1], 0, 1))
  return (colours[..., :3] * 255).astype(np.uint8)
