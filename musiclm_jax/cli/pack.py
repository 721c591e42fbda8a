# SPDX-License-Identifier: Apache-2.0
"""Copies a model into one small folder, to be handed on.

  musiclm compress --model runs/model --output runs/small --dtype int8
  musiclm pack --model runs/small --output packed --max_megabytes 25 \\
    --corpus runs/tunebook --license cc-by-4.0 --training training.md

Bundles are copied as they are stored, with a model card (of the corpus, of the
file that says how it was trained, and of `evaluation/` beside the model) and a
piece to compare with later.
--no_continuation leaves out what only --continue_from needs: the semantic
tokenizer and the codec's encoder.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

_MEGABYTE = 1_000_000


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm pack', description=__doc__)
  add = parser.add_argument
  add('--model', required=True, help='folder of a music_lm.json')
  add('--output', required=True, help='a folder that is not there yet')
  add('--max_megabytes', type=float, default=25, help='of 10^6 bytes')
  add('--no_continuation', action='store_true', help='see above')
  add('--corpus', help='what it was trained on; corpus/ beside the model')
  add('--license', help="of the weights, such as 'cc-by-4.0'")
  add('--training', metavar='FILE', help='Markdown: how, how long, on what')
  options = parser.parse_args(argv)
  training = options.training and pathlib.Path(options.training).read_text(
    encoding='utf-8'
  )

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.cli import train
  from musiclm_jax.export import model_card, packing

  train.keep_compiled_programs()
  sizes = packing.pack(
    options.model,
    options.output,
    max_bytes=int(options.max_megabytes * _MEGABYTE),
    continuation=not options.no_continuation,
    corpus=options.corpus,
    license=options.license or model_card.UNKNOWN_LICENSE,
    training=training,
  )
  for place, size in [*sizes.items(), ('all', sum(sizes.values()))]:
    print(f'{place:16} {size / _MEGABYTE:8.2f} MB')
  print(f'{options.output}: `musiclm generate --model {options.output}`')


if __name__ == '__main__':
  shell.run('pack')
