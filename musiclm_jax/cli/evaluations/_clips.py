# SPDX-License-Identifier: Apache-2.0
"""Music to evaluate: a folder of audio files, or pieces of a prepared corpus."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.data.corpus import AudioCorpus
  from musiclm_jax.evaluation import clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Music:
  """Clips to hear, one at a time.

  Attributes:
    source: Where they are from, in words.
    clips: Of any number of rates.
    count: How many.
  """

  source: str
  clips: Iterable[clips.Clip | clips.BadClip]
  count: int


def add_corpus_arguments(parser: flags.Parser) -> None:
  """Which pieces of a corpus are taken, and how much of each."""
  parser.add_argument(
    '--split',
    default='test',
    type=lambda names: names.split(','),
    help='of a corpus; one, or several, such as validation,test',
  )
  parser.add_argument(
    '--seconds', type=int, default=10, help='of the middle of each piece'
  )
  parser.add_argument(
    '--num_clips', type=int, help='of all splits together; all if left out'
  )


def music_of(directory: str, *, options: argparse.Namespace) -> Music:
  """The audio files of a folder; if it is a corpus, pieces of it."""
  from musiclm_jax.data import corpus
  from musiclm_jax.evaluation import clips

  if (pathlib.Path(directory) / corpus.CORPUS_FILE).exists():
    return of_corpus(directory, options=options)
  count = len(clips.files_of(directory))
  return Music(source=directory, clips=clips.read(directory), count=count)


def of_corpus(directory: str, *, options: argparse.Namespace) -> Music:
  """The middles of pieces, spread evenly over the splits."""
  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import clips

  corpus = corpora.AudioCorpus(directory)
  chosen = choose(corpus, directory=directory, options=options)
  return Music(
    source=f'{directory}, split {" and ".join(options.split)}, the middle'
    f' {options.seconds} s of each piece',
    clips=(
      clips.Clip(
        name=corpus.describe(number).id,  # Numbers pair unlike pieces.
        waveform=middle(corpus, number, seconds=options.seconds),
        sample_rate_hz=corpus.sample_rate_hz,
      )
      for _, number in chosen
    ),
    count=len(chosen),
  )


def choose(
  corpus: AudioCorpus, *, directory: str, options: argparse.Namespace
) -> list[tuple[str, Any]]:
  """(split, number) of clips, spread evenly over the splits."""
  found = [
    (split, number) for split in options.split for number in corpus.clips(split)
  ]
  count = len(found) if options.num_clips is None else options.num_clips
  if not 1 <= count <= len(found):
    raise ValueError(
      f'{count} clips are wanted; split {", ".join(options.split)} of'
      f' {directory} has {len(found)}. Ask for fewer or name another split.'
    )
  return [found[n * len(found) // count] for n in range(count)]


def middle(corpus: AudioCorpus, clip: Any, *, seconds: int) -> np.ndarray:
  """The middle of a piece, in [-1, 1]; all of it if it is shorter."""
  import numpy as np

  from musiclm_jax.data import corpus as corpora

  start, num_samples = middle_span(corpus, clip, seconds=seconds)
  samples = corpus.read(clip, start=start, num_samples=num_samples)
  return samples.astype(np.float32) / np.float32(corpora.FULL_SCALE)


def middle_span(
  corpus: AudioCorpus, clip: Any, *, seconds: int
) -> tuple[int, int]:
  """Where it starts and how long it is, in samples."""
  length = int(corpus.index['num_samples'][clip])
  num_samples = min(seconds * corpus.sample_rate_hz, length)
  return (length - num_samples) // 2, num_samples
