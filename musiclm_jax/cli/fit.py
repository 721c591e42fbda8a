# SPDX-License-Identifier: Apache-2.0
"""Fits the codebooks of a trained model on a corpus, as gin files say.

  musiclm fit semantic --gin_file=experiments/semantic_tokens_tiny.gin \\
    --gin.TRAINED="'runs/w2v_bert'" --gin.CORPUS="'runs/tunebook'" \\
    --gin.MODEL_DIR="'runs/semantic'"

KIND is a file `tokenization/fit_KIND.py`; there is no list of them.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
from collections.abc import Sequence

import musiclm_jax
from musiclm_jax.cli import flags, pod, train
from musiclm_jax.cli import main as shell

_FOLDER = pathlib.Path(musiclm_jax.__file__).parent / 'tokenization'
_PREFIX = 'fit_'


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm fit', description=__doc__)
  parsers = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
  for kind, about in kinds().items():
    parsers.add_parser(
      kind, help=about.split('\n')[0], description=about
    ).add_gin_flags()
  options = parser.parse_args(argv)

  # Late, so that `--help` answers at once.
  from musiclm_jax.cli import setup

  module = importlib.import_module(
    f'musiclm_jax.tokenization.{_PREFIX}{options.kind}'
  )
  fit = setup.configure(options, root=module.fit, supplied=['gin_config'])
  train.keep_compiled_programs()
  pod.join()
  fit(gin_config=setup.operative_config)


def kinds() -> dict[str, str]:
  """What can be fitted, and its docstring, read without importing it."""
  return {
    path.stem.removeprefix(_PREFIX): ast.get_docstring(
      ast.parse(path.read_text(encoding='utf-8'))
    )
    or ''
    for path in sorted(_FOLDER.glob(f'{_PREFIX}*.py'))
  }


if __name__ == '__main__':
  shell.run('fit')
