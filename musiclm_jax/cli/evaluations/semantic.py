# SPDX-License-Identifier: Apache-2.0
"""Semantic tokens: probes, tunes told apart, and codes in use.

  musiclm evaluate semantic --model runs/semantic --corpus runs/tunebook \\
    --output runs/semantic/evaluation

Fits linear probes (instrument family, meter, mode) to crops of the training
split and asks them about the other splits, or about those of --held_out, a
corpus of the same data set. Then renders tunes of the other splits twice, by
two instruments at two tempos, and asks whether they are recognised. Compares
log-mel, the network untrained and trained, and tokens of each. Writes
semantic.md (tables) and semantic.json (every figure); prints the tables.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from musiclm_jax.cli import flags

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.data.corpus import AudioCorpus, ClipNumber
  from musiclm_jax.evaluation import semantic as evaluation

HELD_OUT_SPLITS = ('validation', 'test')


def add_arguments(parser: flags.Parser) -> None:
  parser.add_argument('--model', required=True, help='folder of the bundle')
  parser.add_argument('--corpus', required=True, help='a prepared corpus')
  parser.add_argument(
    '--held_out', help='another corpus for the held-out tunes'
  )
  parser.add_argument('--crops', type=int, default=2, help='of each piece')
  parser.add_argument('--seconds', type=int, default=10, help='of each crop')
  parser.add_argument(
    '--num_covers',
    type=int,
    default=60,
    help='tunes to render twice; 0 for none',
  )
  parser.add_argument('--output', required=True, help='folder to write to')


def run(options: argparse.Namespace) -> None:
  import rich.progress

  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.data.tunebook import render
  from musiclm_jax.evaluation import semantic as evaluation
  from musiclm_jax.evaluation import semantic_report, semantic_views
  from musiclm_jax.semantic import tokenizer

  model = tokenizer.SemanticTokenizer.load(options.model)
  corpus = corpora.AudioCorpus(options.corpus)
  others = corpora.AudioCorpus(options.held_out or options.corpus)
  if others.sample_rate_hz != corpus.sample_rate_hz:
    raise ValueError(
      f'{options.held_out} is at {others.sample_rate_hz} Hz, but'
      f' {options.corpus} at {corpus.sample_rate_hz} Hz; prepare both at one'
      ' rate.'
    )
  pieces = [(corpus, clip, False) for clip in corpus.clips('train')]
  pieces += [
    (others, clip, True)
    for split in HELD_OUT_SPLITS
    for clip in others.clips(split)
  ]
  found = evaluation.evaluate(
    semantic_views.views(
      model,
      waveforms=lambda: (
        crop.waveform
        for clip in corpus.clips('train')
        for crop in crops_of(corpus, clip, is_held_out=False, options=options)
      ),
      sample_rate_hz=corpus.sample_rate_hz,
    ),
    crops=itertools.chain.from_iterable(
      crops_of(source, clip, is_held_out=is_held_out, options=options)
      for source, clip, is_held_out in rich.progress.track(
        pieces, description='Listening'
      )
    ),
    covers=rendered_covers(options.num_covers),
    crops_rate_hz=corpus.sample_rate_hz,
    covers_rate_hz=render.SAMPLE_RATE_HZ,
    codebook_size=model.stream.codebook_size,
  )
  about = (
    f'{options.model}: probes fitted to {options.corpus}, held-out tunes of'
    f' {options.held_out or options.corpus}, {options.crops} crops of'
    f' {options.seconds} s a piece.'
  )
  output = pathlib.Path(options.output)
  semantic_report.write(found, directory=output, about=about)
  print(semantic_report.to_markdown(found, about=about))
  print(f'Written to {output}.')


def crops_of(
  corpus: AudioCorpus,
  clip: ClipNumber,
  *,
  is_held_out: bool,
  options: argparse.Namespace,
) -> Iterator[evaluation.Crop]:
  """Crops spread evenly over a piece; none of one that is too short."""
  import numpy as np

  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation import semantic as evaluation

  num_samples = options.seconds * corpus.sample_rate_hz
  spare = int(corpus.index[clip]['num_samples']) - num_samples
  if spare < 0:
    return
  described = corpus.describe(clip)
  for number in range(options.crops):
    start = spare * (2 * number + 1) // (2 * options.crops)
    samples = corpus.read(clip, start=start, num_samples=num_samples)
    yield evaluation.Crop(
      waveform=samples.astype(np.float32) / np.float32(corpora.FULL_SCALE),
      tune=described.group,
      classes=classes_of(described.facts),
      is_held_out=is_held_out,
    )


def classes_of(facts: Mapping[str, Any]) -> dict[str, str | None]:
  """What a probe is asked; None where the facts do not say, or say two things.

  The mode is that of the score's key header; of the rarer ones there are too
  few. Meters that sound alike (2/2 and 4/4) are one class.
  """
  from musiclm_jax.data.tunebook import meters

  families, mode = facts.get('families') or (), facts.get('mode')
  meter = None
  if facts.get('meter'):
    written = meters.parse_meter(facts['meter'])
    triple = 'triple' if written.beats % 3 == 0 else 'duple'
    meter = 'compound' if written.is_compound else triple
  return {
    'instrument family': families[0] if len(families) == 1 else None,
    'meter': meter,
    'mode': mode if mode in ('major', 'minor') else None,
  }


def rendered_covers(
  num_tunes: int,
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
  """Two renderings of each tune, by the pair of instruments."""
  import rich.progress

  from musiclm_jax.data.tunebook import covers

  by_players = {}
  if num_tunes:
    rendered = covers.covers(num_tunes=num_tunes, splits=HELD_OUT_SPLITS)
    for cover in rich.progress.track(
      rendered, description='Rendering', total=num_tunes
    ):
      by_players.setdefault(cover.players, []).append(cover.waveforms)
  return list(by_players.values())
