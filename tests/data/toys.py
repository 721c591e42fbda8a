# SPDX-License-Identifier: Apache-2.0
"""A data set of sines with every fault there is, that pickles by its name."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import time

import numpy as np

from musiclm_jax.data import sources, writer

RATE_HZ = 1009


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sines:
  """Clip n is a sine that starts at n / 100 in phase and differs everywhere.

  Attributes:
    num_clips: Clips; every fifth is of the validation split.
    faults: Clip number to what is wrong with it.
    kill_at: This clip ends the process that loads it.
    min_samples: Length of clip 0; clip n has 97 n more.
    seconds_a_clip: How long a load takes.
    seconds_a_clip: How long a load takes.
  log: A file that every load adds a line to.
  """

  num_clips: int = 11
  faults: tuple[tuple[int, str], ...] = ()
  kill_at: int | None = None
  min_samples: int = 2 * RATE_HZ + 13
  seconds_a_clip: float = 0
  log: pathlib.Path | None = None

  @property
  def name(self) -> str:
    return 'sines'

  def clips(self) -> list[sources.ClipRef]:
    return [
      sources.ClipRef(
        id=f'sine-{n}',
        split='validation' if n % 5 == 4 else 'train',
        group=f'tune-{n}',
      )
      for n in range(self.num_clips)
    ]

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    n = int(ref.id.removeprefix('sine-'))
    if self.log is not None:
      with open(self.log, 'a') as log:
        log.write(f'{n}\n')
    time.sleep(self.seconds_a_clip)
    if n == self.kill_at:
      time.sleep(0.2)  # Let the other worker finish something.
      os._exit(1)
    return sources.Clip(
      waveform=self.waveform(n),
      sample_rate_hz=RATE_HZ,
      captions=(f'sine {n}', f'a tone, number {n}'),
      facts={'number': n, 'notes': [[0.0, 1.5, 60 + n]]},
    )

  def waveform(self, n: int) -> np.ndarray:
    time_s = np.arange(self.min_samples + 97 * n, dtype=np.float32) / RATE_HZ
    waveform = 0.5 * np.sin(2 * np.pi * (31 + n) * time_s + n / 100)
    fault = dict(self.faults).get(n)
    if fault == 'missing':
      raise sources.RejectedClip('missing', f'no file for {n}')
    if fault == 'corrupt':
      raise RuntimeError('bad header')
    changed = {
      'silent': lambda: waveform * 1e-6,
      'short': lambda: waveform[: RATE_HZ // 2],
      'nan': lambda: np.where(np.arange(len(waveform)) == 7, np.nan, waveform),
      'loud': lambda: waveform * 3,
      None: lambda: waveform,
    }[fault]()
    return changed.astype(np.float32)


def write(directory: pathlib.Path, source: Sines, **settings):
  settings = {
    'sample_rate_hz': RATE_HZ,
    'num_workers': 0,
    'clips_per_shard': 3,
    'show_progress': False,
  } | settings
  return writer.write_corpus(source, directory, **settings)


def digests(directory: pathlib.Path) -> dict[str, str]:
  """Of every file of a corpus."""
  return {
    str(path.relative_to(directory)): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in sorted(directory.rglob('*'))
    if path.is_file() and path.name != '.lock'
  }
