# SPDX-License-Identifier: Apache-2.0
"""Copies a model with its weights as float16 or int8: fewer bytes on disk.

  musiclm compress --model runs/model --output runs/small --dtype int8

The copy is read as any other model, its weights as float32, and stands where
its original does: it states from which it was derived. With int8 the three
stages are int8, each channel with its own scale; what makes codes is float16.
What it costs is printed for the weights; for music, compare both by `musiclm
evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

_MEGABYTE = 1_000_000


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm compress', description=__doc__)
  add = parser.add_argument
  add('--model', required=True, help='folder of a music_lm.json, or a bundle')
  add('--output', required=True, help='a folder that is not there yet')
  add('--dtype', required=True, choices=('float16', 'int8'))
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.export import folder
  from musiclm_jax.inference import compression

  with folder.staged(options.output) as staging:
    made = compression.compress(options.model, staging, dtype=options.dtype)
  for part in made:
    print(
      f'{part.name:15} {part.storage:8}'
      f' {part.bytes_before / _MEGABYTE:7.2f} →'
      f' {part.bytes_after / _MEGABYTE:6.2f} MB, weights'
      f' {part.relative_error:.2%} off'
    )
  total = sum(part.bytes_after for part in made) / _MEGABYTE
  print(f'{options.output}: {total:.2f} MB of weights')


if __name__ == '__main__':
  shell.run('compress')
