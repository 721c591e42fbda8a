# SPDX-License-Identifier: Apache-2.0
"""Prepares a corpus of a data set, or reports what one holds.

  musiclm data prepare --gin_file=data/tunebook.gin --output=runs/tunebook
  musiclm data report runs/tunebook

`prepare` goes on where a stopped run left off; a finished corpus is not
written again. `report` shows clips, hours, and what was rejected and why.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


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
  """Prints two tables: what is there, and what is not."""
  import rich
  from rich import markup, table

  from musiclm_jax.data import corpus

  info = corpus.read_info(pathlib.Path(directory))
  rich.print(markup.escape(info.summary()))
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


if __name__ == '__main__':
  shell.run('data')
