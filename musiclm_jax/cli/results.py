# SPDX-License-Identifier: Apache-2.0
"""Puts the reports of evaluations on one page, with what gives them again.

  musiclm results runs/codec/evaluation runs/evaluation --output docs/results.md

Every report stands under its command, its seed and the fingerprints of the bundles
that it read; `musiclm evaluate` writes these beside it. The published figures of
others are in a table of their own.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm results', description=__doc__)
  parser.add_argument(
    'reports', nargs='+', metavar='DIR', help='that evaluations wrote to'
  )
  parser.add_argument('--output', required=True, help='page to write')
  options = parser.parse_args(argv)

  from musiclm_jax.checkpoints import text_file
  from musiclm_jax.evaluation import results

  text = results.page(options.reports)
  path = pathlib.Path(options.output)
  text_file.write(path, text)
  count = sum(len(results.origins_of(folder)) for folder in options.reports)
  print(f'{path}: {count} reports.')


if __name__ == '__main__':
  shell.run('results')
