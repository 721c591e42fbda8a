# SPDX-License-Identifier: Apache-2.0
"""Draws figures of a run by step, out of its metrics.jsonl.

  musiclm curves --model runs/codec --output curve.svg evaluate/codec/mel_distance

The file may end in .svg or .png. TensorBoard shows the same figures live.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm curves', description=__doc__)
  parser.add_argument('names', nargs='+', metavar='NAME', help='of a figure')
  parser.add_argument('--model', required=True, help="the run's folder")
  parser.add_argument('--output', required=True, help='picture to write')
  draw(parser.parse_args(argv))


def draw(options: argparse.Namespace) -> None:
  """`musiclm curves`."""
  from musiclm_jax.evaluation import pictures
  from musiclm_jax.training import metrics_writer

  path = pathlib.Path(options.model) / 'metrics' / metrics_writer.FILE_NAME
  if not path.is_file():
    raise flags.UsageError(
      f'{path} does not exist; --model is the folder of a run that has logged.'
    )
  figures = {}
  for line in metrics_writer.read(path):
    for name, value in line.items():
      figures.setdefault(name, {})[line['step']] = value
  for name in options.names:
    if name not in figures:
      raise flags.UsageError(
        f'the run has no figure {name!r}{flags.nearest(name, figures)}'
      )
  pictures.save_curves(
    {name: figures[name] for name in options.names}, path=options.output
  )
  print(f'Written to {options.output}.')


if __name__ == '__main__':
  shell.run('curves')
