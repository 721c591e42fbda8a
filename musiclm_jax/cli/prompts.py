# SPDX-License-Identifier: Apache-2.0
"""Writes a set of prompts, for `musiclm generate --prompts`.

  musiclm prompts --output prompts.jsonl
  musiclm prompts --musiccaps musiccaps-public.csv --balanced --output caps.jsonl
  musiclm prompts --corpus runs/tunebook --split test --output captions.jsonl

The first is ours: sixty prompts on genre, mood, instruments, tempo, negation and
temporal order, with facts. MusicCaps is a table that you have; --balanced keeps
its subset of 1,000 clips with genres in equal parts. Of a corpus, the first
caption of clips spread over the split, with their facts; one clip a tune. Prompts
of both name their clip, which `musiclm evaluate music` pairs the music with.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  from musiclm_jax.evaluation.prompts import Prompt

# Facts of a rendering that a caption may state and a listener can check.
_FACTS = ('families', 'tempo_bpm', 'meter', 'key', 'mode')


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm prompts', description=__doc__)
  source = parser.add_mutually_exclusive_group()
  source.add_argument('--musiccaps', metavar='CSV', help='the MusicCaps table')
  source.add_argument('--corpus', help='a prepared corpus with captions')
  parser.add_argument(
    '--balanced', action='store_true', help='its balanced subset alone'
  )
  parser.add_argument('--split', default='test', help='of the corpus')
  parser.add_argument('--num', type=int, help='how many; all if left out')
  parser.add_argument('--output', required=True, help='file to write')
  options = parser.parse_args(argv)
  if options.balanced and not options.musiccaps:
    raise flags.UsageError('--balanced is of --musiccaps; give both.')

  from musiclm_jax.evaluation import prompts

  if options.musiccaps:
    found = of_musiccaps(options.musiccaps, balanced=options.balanced)
  elif options.corpus:
    found = of_corpus(options.corpus, split=options.split)
  else:
    found = prompts.read(our_file())
  number = len(found) if options.num is None else options.num
  if not 0 < number <= len(found):
    raise flags.UsageError(
      f'--num is {number}; there are {len(found)} prompts.'
    )
  prompts.write(
    options.output, [found[n * len(found) // number] for n in range(number)]
  )
  print(f'{options.output}: {number} prompts.')


def our_file() -> pathlib.Path:
  """Where our own prompts are: in a checkout, or in the wheel."""
  import musiclm_jax

  package = pathlib.Path(musiclm_jax.__file__).parent
  packaged = package / '_datasets'
  folder = packaged if packaged.is_dir() else package.parent / 'data'
  return folder / 'prompts' / 'prompts.jsonl'


def of_musiccaps(csv_path: str, *, balanced: bool) -> list[Prompt]:
  """A caption a clip; the audio is not wanted."""
  from musiclm_jax.data.tasks import musiccaps
  from musiclm_jax.evaluation.prompts import Prompt

  return [
    Prompt(text=row['caption'], reference=ytid)
    for ytid, row in musiccaps.read_table(csv_path, balanced=balanced).items()
  ]


def of_corpus(directory: str, *, split: str) -> list[Prompt]:
  """The first caption of the first clip of every tune, with its facts."""
  from musiclm_jax.data import corpus as corpora
  from musiclm_jax.evaluation.prompts import Prompt

  corpus = corpora.AudioCorpus(directory)
  found = {}
  for clip in corpus.clips(split):
    what = corpus.describe(clip)
    if what.captions and what.group not in found:
      facts = {name: what.facts.get(name) for name in _FACTS}
      found[what.group] = Prompt(
        text=what.captions[0],
        facts={k: v for k, v in facts.items() if v},
        reference=what.id,
      )
  if not found:
    raise ValueError(f'Split {split!r} of {directory} has no captions.')
  return list(found.values())


if __name__ == '__main__':
  shell.run('prompts')
