# SPDX-License-Identifier: Apache-2.0
"""An encoder whose codes say where they come from, and corpora of them."""

from __future__ import annotations

import math
import os
import pathlib

import numpy as np

from musiclm_jax.data import corpus, sources, token_writer
from musiclm_jax.streams import TokenStream
from tests.data import toys

CLIP = TokenStream(
  name='mulan',
  rate_hz=None,
  num_codebooks=3,
  codebook_size=101,
  fingerprint='m',
)
SLOW = TokenStream(
  name='semantic',
  rate_hz=2,
  num_codebooks=1,
  codebook_size=509,
  fingerprint='s',
)
FAST = TokenStream(
  name='acoustic',
  rate_hz=5,
  num_codebooks=4,
  codebook_size=1021,
  fingerprint='a',
)
CONDITION_SECONDS = (3, 2)
CODEBOOKS = {'semantic': np.arange(1018, dtype=np.float32).reshape(1, 509, 2)}


class CountingEncoder:
  """Code = frame number + 7 × level; conditions count seconds and windows.

  Everything is offset by a number that the waveform's phase gives away, the
  number of the toy clip.
  """

  def __init__(self, *, kill_at=None, refuse=(), short=False, acoustic=FAST):
    self.streams = (CLIP, SLOW, acoustic)
    self.codebooks = CODEBOOKS
    self._kill_at = kill_at
    self._refuse = refuse
    self._short = short
    self.encoded = []

  def encode(self, waveform, *, sample_rate_hz, condition_seconds):
    number = round((len(waveform) - toys.Sines().min_samples) / 97)
    if number == self._kill_at:
      os._exit(9)
    if number in self._refuse:
      raise sources.RejectedClip('no codes', f'clip {number}')
    self.encoded.append(number)
    return expected(
      number,
      seconds=len(waveform) / sample_rate_hz - self._short,
      condition_seconds=condition_seconds,
    )


def expected(number, *, seconds, condition_seconds=CONDITION_SECONDS):
  """What the encoder gives for toy clip `number`, one frame too many."""
  codes = {}
  for stream in (SLOW, FAST):
    frame = np.arange(math.ceil(seconds * stream.rate_hz) + 1)[:, None]
    level = np.arange(stream.num_codebooks)
    codes[stream.name] = (number + frame + 7 * level) % stream.codebook_size
  second = np.arange(math.ceil(seconds))[:, None, None]
  window = np.array(condition_seconds)[:, None]
  level = np.arange(CLIP.num_codebooks)
  codes['mulan'] = number + second + 10 * window + level
  return codes


def write(directory: pathlib.Path, encoder=None, *, num_clips=11, **settings):
  """A token corpus of toy clips in `directory`/tokens."""
  audio_dir = directory / 'audio'
  if not (audio_dir / corpus.CORPUS_FILE).exists():
    toys.write(audio_dir, toys.Sines(num_clips=num_clips))
  return token_writer.write_token_corpus(
    corpus.AudioCorpus(audio_dir),
    encoder or CountingEncoder(),
    directory / 'tokens',
    **{
      'condition_seconds': CONDITION_SECONDS,
      'clips_per_shard': 3,
      'show_progress': False,
    }
    | settings,
  )
