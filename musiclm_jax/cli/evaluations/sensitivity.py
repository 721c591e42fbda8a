# SPDX-License-Identifier: Apache-2.0
"""What embedders make of music that is worse by a known amount.

  musiclm evaluate sensitivity --reference runs/tunebook --codec runs/codec \\
    --num_clips 60 --output runs/sensitivity

Before a figure is trusted: FAD and KLD of clips with noise, without treble,
softer, and through a codec, each beside the same clips unchanged; and of other
pieces of the same corpus, which is what equally good music gets. Every second
piece is the reference, the others are the other pieces. Writes sensitivity.md
and sensitivity.json; prints the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli.evaluations import _clips, music

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.evaluation import clips
  from musiclm_jax.evaluation import music as evaluation

NAME = 'sensitivity'  # Of both files.


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument(
    '--reference', required=True, metavar='DIR', help='audio files or a corpus'
  )
  parser.add_argument('--codec', metavar='DIR', help='a bundle to go through')
  music.add_embedder_arguments(parser)
  _clips.add_corpus_arguments(parser)
  parser.add_argument('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  from musiclm_jax.evaluation import music as evaluation
  from musiclm_jax.evaluation import report

  embedders = music.load_embedders(options)
  heard = {
    name: music.hear(side, embedders=embedders)
    for name, side in _sets(options).items()
  }
  reference = heard['unchanged']
  found = {
    name: evaluation.evaluate(side, reference, embedders=embedders)
    for name, side in heard.items()
  }
  about = f'{reference.source}: every second of these pieces, made worse.'
  text = to_markdown(found, about=about)
  output = pathlib.Path(options.output)
  report.write(
    output,
    name=NAME,
    fields={'about': about, 'sets': {n: to_json(f) for n, f in found.items()}},
    text=text,
  )
  print(text)
  print(f'Written to {output}.')


def to_json(found: evaluation.MusicReport) -> dict:
  """FAD and KLD of one set, with their intervals."""
  return {
    'fad': {n: dataclasses.asdict(f) for n, f in found.frechet.items()},
    'kld': {n: dataclasses.asdict(f) for n, f in found.kld.items()},
  }


def to_markdown(found: dict[str, evaluation.MusicReport], *, about: str) -> str:
  """A row for each set."""
  from musiclm_jax.evaluation import music as evaluation
  from musiclm_jax.evaluation import report

  first = next(iter(found.values()))
  rows = [
    [
      'set',
      'level, dB',
      *(f'FAD-{name} ↓' for name in first.frechet),
      *(f'KLD-{name} ↓' for name in first.kld),
    ]
  ]
  for name, one in found.items():
    klds = [
      'no pairs' if kld.paired is None else report.show(kld.paired)
      for kld in one.kld.values()
    ]
    level = evaluation.level_estimates(one.generated)['rms_db'].mean
    fads = [report.show(fad.distance) for fad in one.frechet.values()]
    rows.append([name, f'{level:.1f}', *fads, *klds])
  samples = ', '.join(
    f'{name} {fad.num_samples[1]:,} samples of {fad.dim} dimensions'
    for name, fad in first.frechet.items()
  )
  return '\n\n'.join(
    [
      about,
      f'{len(first.generated.clips)} clips a set; {samples}. In brackets:'
      ' bootstrap interval over clips, 95 %.',
      report.table(rows),
    ]
  )


def _sets(options: argparse.Namespace) -> dict[str, _clips.Music]:
  """By name; those made worse from the same clips."""
  from musiclm_jax.codec import base
  from musiclm_jax.evaluation import clips, degradations

  side = _clips.music_of(options.reference, options=options)
  found, bad = [], []
  for clip in side.clips:
    (found if isinstance(clip, clips.Clip) else bad).append(clip)
  if len(found) < 4:
    raise ValueError(
      f'{len(found)} clips of {options.reference} could be read; give 4 or more,'
      ' for half of them are the reference.'
    )
  if bad:
    source = f'{side.source}, without {len(bad)} files that could not be read'
    side = dataclasses.replace(side, source=f'{source}, such as {bad[0].name}')
  ours, others = found[::2], found[1::2]
  ways = dict(degradations.ALL)
  if options.codec:
    codec = base.load_codec(options.codec)
    ways[f'through {options.codec}'] = degradations.through(codec)
  sets = {
    name: _set(degradations.apply(way, ours), side, count=len(ours))
    for name, way in ways.items()
  }
  return sets | {'other pieces': _set(iter(others), side, count=len(others))}


def _set(
  clips: Iterator[clips.Clip], side: _clips.Music, *, count: int
) -> _clips.Music:
  return _clips.Music(source=side.source, clips=clips, count=count)
