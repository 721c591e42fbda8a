# SPDX-License-Identifier: Apache-2.0
"""Turns an audio corpus into a corpus of codes, which the stages train on.

  musiclm tokenize --corpus=runs/tunebook --codec=runs/codec \\
    --semantic=runs/semantic --conditioner=runs/conditioner \\
    --output=runs/tokens

Without --conditioner the codes are those of AudioLM's cascade. A stopped run
goes on with the shards that are missing. In a pod, each process runs the same
command and writes its share; on machines that know nothing of each other,
give --process=0/4 and so on. `musiclm data report` shows what a corpus holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm tokenize', description=__doc__)
  parser.add_argument('--corpus', required=True, help='a prepared corpus')
  parser.add_argument('--codec', required=True, help='folder of its bundle')
  parser.add_argument('--semantic', required=True, help='folder of its bundle')
  parser.add_argument('--conditioner', help='folder of its bundle')
  parser.add_argument('--output', required=True, help='folder to write to')
  parser.add_argument(
    '--windows',
    type=lambda text: tuple(int(number) for number in text.split(',')),
    default=(30, 10),
    metavar='SECONDS',
    help='lengths of the crops that are conditioned; 30,10 if left out. A'
    ' stage with a shorter window is conditioned as the shortest of them',
  )
  parser.add_argument(
    '--max_clips', type=int, help='the first ones alone, to try it out'
  )
  parser.add_argument(
    '--max_bad_share',
    type=float,
    default=0.01,
    help='more rejected clips than this share end the run',
  )
  parser.add_argument(
    '--process',
    type=_share,
    metavar='I/N',
    help='write the I-th of N shares, I from 0 on',
  )
  tokenize(parser.parse_args(argv))


def tokenize(options: argparse.Namespace) -> None:
  """`musiclm tokenize`."""
  # Late, so that `--help` and a wrong command answer at once.
  import jax

  from musiclm_jax.cli import data as reports
  from musiclm_jax.cli import pod, train
  from musiclm_jax.codec.base import load_codec
  from musiclm_jax.conditioning.base import load_conditioner
  from musiclm_jax.data import corpus, token_writer
  from musiclm_jax.semantic.base import load_semantic
  from musiclm_jax.tokenization.tokenize import Tokenizers

  train.keep_compiled_programs()
  pod.join()
  index, count = options.process or (jax.process_index(), jax.process_count())
  audio = corpus.AudioCorpus(options.corpus)
  codec = load_codec(options.codec)
  if audio.sample_rate_hz != codec.sample_rate_hz:
    raise ValueError(
      f'{options.corpus} is at {audio.sample_rate_hz} Hz and {options.codec}'
      f' takes {codec.sample_rate_hz} Hz; prepare a corpus at that rate.'
    )
  written = token_writer.write_token_corpus(
    audio,
    Tokenizers(
      codec=codec,
      semantic=load_semantic(options.semantic),
      conditioner=options.conditioner and load_conditioner(options.conditioner),
    ),
    options.output,
    condition_seconds=options.windows,
    max_clips=options.max_clips,
    max_bad_share=options.max_bad_share,
    process_index=index,
    process_count=count,
  )
  if written is not None:
    reports.report(options.output)


def _share(text: str) -> tuple[int, int]:
  """'1/4' as two numbers."""
  index, count = (int(number) for number in text.split('/'))
  return index, count


if __name__ == '__main__':
  shell.run('tokenize')
