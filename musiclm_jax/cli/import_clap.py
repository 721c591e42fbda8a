# SPDX-License-Identifier: Apache-2.0
"""Makes a checkpoint of LAION's CLAP one that `musiclm evaluate` reads.

  musiclm import_clap --checkpoint music_audioset_epoch_15_esc_90.14.pt \\
    --tokenizer roberta-base --output clap
  musiclm evaluate music … --embedders clap=clap

Nothing is fetched. RoBERTa's tokenizer is not in the checkpoint: --tokenizer is
a folder with the vocab.json and merges.txt of roberta-base. The folder's
README.md has the hashes of what it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm import_clap', description=__doc__)
  parser.add_argument(
    '--checkpoint', required=True, metavar='FILE', help='a .pt of laion_clap'
  )
  parser.add_argument(
    '--tokenizer', required=True, metavar='DIR', help="RoBERTa's"
  )
  parser.add_argument(
    '--output', required=True, metavar='DIR', help='a folder not there yet'
  )
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.export import clap

  sha256 = clap.convert(
    options.checkpoint, options.output, tokenizer=options.tokenizer
  )
  print(f'{options.output}: of {sha256}')


if __name__ == '__main__':
  shell.run('import_clap')
