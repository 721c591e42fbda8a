# SPDX-License-Identifier: Apache-2.0
"""Measures a trained model on held-out clips, beside a baseline.

  musiclm evaluate codec --model runs/codec --corpus runs/tunebook …

A kind of model is a file of `evaluations/`; there is no list of them. Beside each
report stands its origin (the command and the fingerprints of what it read), from
which `musiclm results` makes a page.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import shlex
import types
from collections.abc import Sequence

from musiclm_jax.cli import evaluations, flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm evaluate', description=__doc__)
  parsers = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
  found = kinds()
  for kind, module in found.items():
    about = module.__doc__.split('\n')[0]
    module.add_arguments(
      parsers.add_parser(kind, help=about, description=module.__doc__)
    )
  options = parser.parse_args(argv)
  found[options.kind].run(options)
  keep_origin(options, argv=argv)


def keep_origin(options: argparse.Namespace, *, argv: Sequence[str]) -> None:
  """Writes what gives the report again."""
  from musiclm_jax.evaluation import results

  folders = []
  for value in vars(options).values():
    folders += value if isinstance(value, list) else [value]
  origin = results.Origin(
    kind=options.kind,
    command=shlex.join(['musiclm', 'evaluate', *argv]),
    # Without the option: that of every draw whose seed is left out.
    seed=getattr(options, 'seed', 0),
    fingerprints=results.fingerprints_of(
      [folder for folder in folders if isinstance(folder, str)]
    ),
  )
  results.write_origin(options.output, origin)


def kinds() -> dict[str, types.ModuleType]:
  """What can be evaluated, by name."""
  folder = pathlib.Path(evaluations.__file__).parent
  names = sorted(path.stem for path in folder.glob('[!_]*.py'))
  package = evaluations.__name__
  return {name: importlib.import_module(f'{package}.{name}') for name in names}


if __name__ == '__main__':
  shell.run('evaluate')
