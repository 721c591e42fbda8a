# SPDX-License-Identifier: Apache-2.0
"""Prepares a corpus of a data set, or reports what one holds.

  musiclm data prepare --gin_file=data/tunebook.gin --output=runs/tunebook
  musiclm data report runs/tunebook

`prepare` goes on where a stopped run left off; a finished corpus is not
written again. `report` shows clips, hours, and what was rejected and why; of
what `musiclm tokenize` wrote, also the streams and how they use their codes.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

if TYPE_CHECKING:  # Late otherwise, so that `--help` answers at once.
  import numpy as np

  from musiclm_jax.data.corpus import CorpusInfo


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm data', description=__doc__)
  actions = parser.add_subparsers(dest='action', required=True)
  preparing = actions.add_parser('prepare', help='write or finish a corpus')
  preparing.add_argument('--output', required=True, metavar='DIR')
  preparing.add_argument(
    '--workers', type=int, metavar='N', help='processes; one a core if left out'
  )
  preparing.add_gin_flags()
  reporting = actions.add_parser('report', help='what a corpus holds')
  reporting.add_argument('directory', metavar='DIR')
  options = parser.parse_args(argv)
  if options.action == 'prepare':
    prepare(options)
    report(options.output)
  else:
    report(options.directory)


def prepare(options: argparse.Namespace) -> None:
  # Late, so that `--help` answers at once.
  from musiclm_jax.cli import setup
  from musiclm_jax.data import writer

  write = setup.configure(
    options, root=writer.write_corpus, supplied=['directory', 'num_workers']
  )
  write(directory=options.output, num_workers=options.workers)


def report(directory: str) -> None:
  """Prints what a corpus holds, of audio or of codes, and what it lacks."""
  from musiclm_jax.data import corpus, token_corpus

  folder = pathlib.Path(directory)
  if (folder / token_corpus.TOKENS_FILE).exists():
    tokens = token_corpus.read_info(folder)
    _print_corpus(tokens.audio, summary=tokens.summary())
    _print_usage(token_corpus.read_usage(folder))
  else:
    info = corpus.read_info(folder)
    _print_corpus(info, summary=info.summary())


def _print_corpus(info: CorpusInfo, *, summary: str) -> None:
  """Two tables: what is there, and what is not."""
  import rich
  from rich import markup, table

  rich.print(markup.escape(summary))
  there = table.Table('split', 'clips', 'hours', 'mean seconds')
  for split, counts in info.splits.items():
    seconds = counts.samples / info.sample_rate_hz
    there.add_row(
      split,
      f'{counts.clips:,}',
      f'{seconds / 3600:.2f}',
      f'{seconds / counts.clips:.1f}',
    )
  rich.print(there)
  if info.rejected:
    rejected = table.Table('rejected', 'clips', 'for instance')
    for reason, counts in info.rejected.items():
      example = markup.escape(counts.examples[0])
      rejected.add_row(reason, f'{counts.clips:,}', example)
    rich.print(rejected)


def _print_usage(usage: Mapping[str, np.ndarray]) -> None:
  """How each level of each stream uses its codes."""
  import rich
  from rich import table

  from musiclm_jax.evaluation import codebook_usage

  levels = table.Table('stream', 'level', 'codes used', 'entropy', 'perplexity')
  for stream, counts in usage.items():
    for level, of_level in enumerate(counts, start=1):
      figures = codebook_usage.measure(of_level)
      levels.add_row(
        stream,
        str(level),
        f'{figures.used_share:.1%}',
        f'{figures.entropy_bits:.2f} bits',
        f'{figures.perplexity:.1f}',
      )
  rich.print(levels)


if __name__ == '__main__':
  shell.run('data')
