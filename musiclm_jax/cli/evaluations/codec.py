# SPDX-License-Identifier: Apache-2.0
"""A codec beside Opus, on held-out clips.

  musiclm evaluate codec --model runs/codec --corpus runs/tunebook \\
    --split test --num_clips 20 --output runs/codec/evaluation

Writes codec.md (tables), codec.json (every clip's figures), and of the first
clip codec.png (spectrograms) and audio/ (the original and each copy); prints
the tables. A clip is the middle of a piece; the pieces are spread evenly over
the split.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.data.corpus import AudioCorpus

PICTURE_FILE = 'codec.png'
AUDIO_FOLDER = 'audio'


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument('--model', required=True, help='folder of the bundle')
  parser.add_argument('--corpus', required=True, help='a prepared corpus')
  parser.add_argument('--split', default='test')
  parser.add_argument('--num_clips', type=int, default=20)
  parser.add_argument('--seconds', type=int, default=10, help='of each clip')
  parser.add_argument('--levels', type=_numbers, help='such as 1,2,4,8,12')
  parser.add_argument(
    '--opus_kbps', type=_numbers, help='such as 6,12,24; matched if left out'
  )
  parser.add_argument(
    '--metrics',
    type=lambda names: names.split(','),
    help='such as mel_distance_db,si_sdr_db; visqol takes a second a copy',
  )
  parser.add_argument('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import rich.progress

  from musiclm_jax.audio import io
  from musiclm_jax.codec import base
  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import codec as evaluation
  from musiclm_jax.evaluation import codec_report, pictures

  metrics = chosen(evaluation.METRICS, options.metrics)
  codec = base.load_codec(options.model)
  clips = held_out_clips(
    corpora.AudioCorpus(options.corpus),
    split=options.split,
    num_clips=options.num_clips,
    seconds=options.seconds,
    sample_rate_hz=codec.sample_rate_hz,
  )
  systems = evaluation.Systems(
    codec=codec,
    levels=options.levels or evaluation.DEFAULT_LEVELS,
    opus_kbps=options.opus_kbps,
  )
  found = evaluation.evaluate(
    systems,
    rich.progress.track(clips, description='Evaluating'),
    metrics=metrics,
  )
  about = (
    f'{options.model} on {options.corpus}, split {options.split}, clips of'
    f' {options.seconds} s.'
  )
  output = pathlib.Path(options.output)
  codec_report.write(found, directory=output, about=about)
  first = {'original': clips[0]} | {
    copy.system: copy.waveform for copy in systems.copies(clips[0])
  }
  pictures.save_spectrograms(
    first, sample_rate_hz=codec.sample_rate_hz, path=output / PICTURE_FILE
  )
  (output / AUDIO_FOLDER).mkdir(exist_ok=True)
  for name, waveform in first.items():
    path = output / AUDIO_FOLDER / (re.sub(r'\W+', '_', name) + '.wav')
    io.write(path, waveform, sample_rate_hz=codec.sample_rate_hz)
  print(codec_report.to_markdown(found, about=about))
  print(f'Written to {output}.')


def held_out_clips(
  corpus: AudioCorpus,
  *,
  split: str,
  num_clips: int,
  seconds: int,
  sample_rate_hz: int,
) -> list[np.ndarray]:
  """The middles of `num_clips` pieces, spread evenly over the split.

  Raises:
    ValueError: The corpus is of another rate, or has too few long pieces, or
      one of them is silent.
  """
  if corpus.sample_rate_hz != sample_rate_hz:
    raise ValueError(
      f'The codec takes {sample_rate_hz} Hz, but the corpus is at'
      f' {corpus.sample_rate_hz} Hz; prepare one at the rate of the codec.'
    )
  num_samples = seconds * sample_rate_hz
  long_enough = [
    clip
    for clip in corpus.clips(split)
    if corpus.index[clip]['num_samples'] >= num_samples
  ]
  if not 0 < num_clips <= len(long_enough) or seconds < 1:
    raise ValueError(
      f'{num_clips} clips of {seconds} s are wanted; split {split!r} has'
      f' {len(long_enough)} pieces of that length. Change --num_clips or'
      ' --seconds.'
    )
  clips = []
  for number in range(num_clips):
    piece = long_enough[number * len(long_enough) // num_clips]
    waveform = corpus.waveform(piece)
    start = (waveform.size - num_samples) // 2
    waveform = waveform[start : start + num_samples]
    if waveform.min() == waveform.max():
      # Not after an hour, by a metric that has nothing to compare.
      raise ValueError(
        f'The middle {seconds} s of {corpus.describe(piece).id!r} are silent, so'
        ' no copy can be compared with them; change --num_clips or --seconds,'
        ' or leave the piece out of the corpus.'
      )
    clips.append(waveform)
  return clips


def chosen(known: dict, names: Sequence[str] | None) -> dict:
  """Those of `known` that are named; all of them if none is."""
  for name in names or ():
    if name not in known:
      raise flags.UsageError(
        f'there is no metric {name!r}{flags.nearest(name, known)}'
      )
  return {name: known[name] for name in names or known}


def _numbers(text: str) -> tuple[int, ...]:
  """'1,2,4' as whole numbers."""
  return tuple(int(number) for number in text.split(','))
