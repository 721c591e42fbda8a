# SPDX-License-Identifier: Apache-2.0
"""Stages on the codes of held-out music: bits per code, beside n-grams.

  musiclm evaluate stages --tokens runs/tokens \\
    --model runs/semantic_stage,runs/coarse_stage,runs/fine_stage \\
    --split test --output runs/evaluation

Writes stages.md (a table a stage, level by level) and stages.json (every
clip's figures); prints the tables. The windows of a clip lie end to end. The
n-grams count the codes of the training split.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.data.token_corpus import TokenCorpus
  from musiclm_jax.evaluation.ngram import Baselines
  from musiclm_jax.evaluation.stages import Clip, StageFigures
  from musiclm_jax.stages.spec import StageSpec

# Windows that are predicted at once.
_BATCH_SIZE = 4


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument('--tokens', required=True, help='a token corpus')
  parser.add_argument(
    '--model',
    required=True,
    type=lambda folders: folders.split(','),
    help='folders of the stages, such as runs/semantic_stage,runs/fine_stage',
  )
  parser.add_argument('--split', default='test')
  parser.add_argument(
    '--num_clips', type=int, help='the first of the split; all if left out'
  )
  parser.add_argument('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  from musiclm_jax.data.token_corpus import TokenCorpus
  from musiclm_jax.evaluation import report, stages

  tokens = TokenCorpus(options.tokens)
  figures = [
    evaluate(folder, tokens, options=options) for folder in options.model
  ]
  num_clips = len(figures[0].tunes)
  page = [
    f'{", ".join(options.model)} on {options.tokens}, split {options.split}:'
    f' {num_clips} clips of {len(set(figures[0].tunes))} tunes. In brackets:'
    ' bootstrap interval over tunes, 95 %.',
    *map(stages.to_markdown, figures),
  ]
  text = '\n\n'.join(page) + '\n'
  report.write(
    pathlib.Path(options.output),
    name='stages',
    fields={'about': page[0], 'stages': [stages.to_json(f) for f in figures]},
    text=text,
  )
  print(text)
  print(f'Written to {options.output}.')


def evaluate(
  folder: str, tokens: TokenCorpus, *, options: argparse.Namespace
) -> StageFigures:
  """One stage on the held-out clips."""
  import rich.progress

  from musiclm_jax.checkpoints import bundle
  from musiclm_jax.data import token_loader
  from musiclm_jax.evaluation import stages

  loaded = bundle.load(folder, kind='stage')
  spec = loaded.config.spec
  token_loader.require_streams(tokens, spec=spec, corpus_dir=options.tokens)
  numbers = tokens.clips(options.split)[: options.num_clips]
  return stages.evaluate(
    loaded.config,
    loaded.weights,
    held_out(
      tokens,
      rich.progress.track(numbers, description=f'Stage {spec.name}'),
      spec=spec,
    ),
    baselines=count(tokens, spec=spec),
  )


def count(tokens: TokenCorpus, *, spec: StageSpec) -> Baselines:
  """The n-grams of a stage's output stream, over the training split."""
  from musiclm_jax.evaluation import ngram
  from musiclm_jax.stages import deduplication

  stream = spec.output.stream
  clips = []
  for clip in tokens.clips('train'):
    seconds = tokens.num_seconds(clip)
    whole = tokens.read(
      clip, start_second=0, window_seconds=seconds, streams=(stream.name,)
    )
    codes = whole[stream.name]
    if spec.output.distinct_share is not None:
      codes = deduplication.runs(codes[:, 0])[0][:, None]
    clips.append(codes)
  return ngram.Baselines.fit(clips, codebook_size=stream.codebook_size)


def held_out(
  tokens: TokenCorpus, numbers: Iterator[int], *, spec: StageSpec
) -> Iterator[Clip]:
  """The windows of each clip end to end; of a short clip its only one."""
  from musiclm_jax.data import token_loader
  from musiclm_jax.evaluation import stages

  for number in numbers:
    room = max(0, tokens.num_seconds(number) - spec.window_seconds)
    starts = range(0, math.floor(room) + 1, math.ceil(spec.window_seconds))
    places = [(int(number), start) for start in starts]
    places += [None] * (-len(places) % _BATCH_SIZE)
    yield stages.Clip(
      tune=tokens.describe(number).group,
      windows=tuple(
        token_loader.crops(
          tokens, places[first : first + _BATCH_SIZE], spec=spec
        )
        for first in range(0, len(places), _BATCH_SIZE)
      ),
    )
