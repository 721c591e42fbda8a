# SPDX-License-Identifier: Apache-2.0
"""Measures what a device does, each figure beside its limit, as JSON lines.

  musiclm benchmark lm
  musiclm benchmark lm --batch_size 1,8 --dtype bfloat16
  musiclm benchmark codec
  musiclm benchmark codec --only run
  musiclm benchmark semantic
  musiclm benchmark mulan
  musiclm benchmark generate
  musiclm benchmark torch --model runs/model --exported exported

The limits are measured in the same run. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm benchmark', description=__doc__)
  kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
  lm = kinds.add_parser('lm', help='decode and train a small stage model')
  lm.add_argument('--only', choices=('decode', 'train'))
  lm.add_argument(
    '--batch_size',
    type=_numbers,
    default=(1, 8),
    help='rows that are decoded at a time, such as 1,8',
  )
  lm.add_argument('--segment_length', type=int, default=128)
  lm.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16', 'int8'),
    default='float32',
    help='int8 is that of kernels that decode: with --only decode',
  )
  lm.add_argument('--num_runs', type=int, default=5, help='timed runs of each')
  lm.set_defaults(run=benchmark_lm)
  codec = kinds.add_parser('codec', help='encode, decode and train a codec')
  codec.add_argument('--only', choices=('run', 'train'))
  codec.add_argument('--batch_size', type=int, default=1)
  codec.add_argument('--seconds', type=int, default=10, help='of a waveform')
  codec.add_argument('--train_seconds', type=int, default=1, help='of a crop')
  codec.add_argument('--num_runs', type=int, default=5, help='timed runs')
  codec.add_gin_flags()
  codec.set_defaults(run=benchmark_codec)
  semantic = kinds.add_parser('semantic', help='train w2v-BERT, make codes')
  semantic.add_argument('--only', choices=('encode', 'train'))
  semantic.add_argument('--batch_size', type=int, default=4)
  semantic.add_argument('--seconds', type=int, default=30, help='of a waveform')
  semantic.add_argument('--train_seconds', type=int, default=10)
  semantic.add_argument(
    '--num_mlm_blocks', type=int, help='that the codes need; all if left out'
  )
  semantic.add_argument('--num_runs', type=int, default=5, help='timed runs')
  semantic.add_gin_flags()
  semantic.set_defaults(run=benchmark_semantic)
  mulan = kinds.add_parser('mulan', help='train MuLan')
  mulan.add_argument('--batch_size', type=int, default=64, help='pairs')
  mulan.add_argument('--num_runs', type=int, default=5, help='timed runs')
  mulan.add_gin_flags()
  mulan.set_defaults(run=benchmark_mulan)
  generate = kinds.add_parser('generate', help='make music, end to end')
  generate.add_argument('--batch_size', type=int, default=1, help='pieces')
  generate.add_argument('--seconds', type=int, default=10, help='of a piece')
  generate.add_argument(
    '--guidance',
    type=lambda text: None if text == 'none' else float(text),
    default=3.0,
    help="scale of classifier-free guidance, or 'none'",
  )
  generate.add_argument('--num_runs', type=int, default=3, help='timed runs')
  generate.add_gin_flags()
  generate.set_defaults(run=benchmark_generate)
  torch = kinds.add_parser('torch', help='an exported folder beside JAX')
  torch.add_argument('--model', required=True, help='folder of a music_lm.json')
  torch.add_argument('--exported', required=True, help='what was made of it')
  torch.add_argument('--batch_size', type=_numbers, default=(1, 8))
  torch.add_argument('--seconds', type=int, default=10, help='of a waveform')
  torch.add_argument('--num_runs', type=int, default=5, help='timed runs')
  torch.add_argument(
    '--compile', action='store_true', help='steps of the stages in PyTorch too'
  )
  torch.set_defaults(run=benchmark_torch)
  options = parser.parse_args(argv)
  options.run(options)


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(number) for number in text.split(','))


def benchmark_codec(options: argparse.Namespace) -> None:
  """`musiclm benchmark codec`; `gin/runs/benchmark_codec.gin` by default."""
  from musiclm_jax.benchmark import codec
  from musiclm_jax.cli import setup
  from musiclm_jax.codec.objective import SoundStreamObjective

  options.gin_file = options.gin_file or ['runs/benchmark_codec.gin']
  objective = setup.configure(options, root=SoundStreamObjective)()
  if options.only != 'train':
    for measured in codec.measure(
      objective.codec,
      batch_size=options.batch_size,
      seconds=options.seconds,
      num_runs=options.num_runs,
    ):
      _print(measured)
  if options.only != 'run':
    _print(
      codec.measure_training(
        objective,
        batch_size=options.batch_size,
        seconds=options.train_seconds,
        num_runs=options.num_runs,
      )
    )


def benchmark_semantic(options: argparse.Namespace) -> None:
  """`musiclm benchmark semantic`; its own gin file by default."""
  from musiclm_jax.benchmark import semantic
  from musiclm_jax.cli import setup
  from musiclm_jax.semantic.objective import W2vBertObjective

  options.gin_file = options.gin_file or ['runs/benchmark_semantic.gin']
  objective = setup.configure(options, root=W2vBertObjective)()
  sizes = {'batch_size': options.batch_size, 'num_runs': options.num_runs}
  num_mlm_blocks = options.num_mlm_blocks
  if num_mlm_blocks is None:
    num_mlm_blocks = objective.model.num_mlm_blocks
  if options.only != 'train':
    _print(
      semantic.measure_encoding(
        objective,
        num_mlm_blocks=num_mlm_blocks,
        seconds=options.seconds,
        **sizes,
      )
    )
  if options.only != 'encode':
    _print(
      semantic.measure_training(
        objective, seconds=options.train_seconds, **sizes
      )
    )


def benchmark_mulan(options: argparse.Namespace) -> None:
  """`musiclm benchmark mulan`; `gin/runs/benchmark_mulan.gin` by default."""
  from musiclm_jax.benchmark import mulan
  from musiclm_jax.cli import setup
  from musiclm_jax.mulan.objective import MulanObjective

  options.gin_file = options.gin_file or ['runs/benchmark_mulan.gin']
  _print(
    mulan.measure_training(
      setup.configure(options, root=MulanObjective)(),
      batch_size=options.batch_size,
      num_runs=options.num_runs,
    )
  )


def benchmark_generate(options: argparse.Namespace) -> None:
  """`musiclm benchmark generate`; its own gin file by default."""
  from musiclm_jax.benchmark import generate
  from musiclm_jax.cli import setup

  options.gin_file = options.gin_file or ['runs/benchmark_generate.gin']
  pipeline = setup.configure(options, root=generate.Pipeline)()
  for measured in generate.measure(
    pipeline,
    batch_size=options.batch_size,
    audio_seconds=options.seconds,
    guidance_scale=options.guidance,
    num_runs=options.num_runs,
  ):
    _print(measured)


def benchmark_lm(options: argparse.Namespace) -> None:
  """`musiclm benchmark lm`."""
  from musiclm_jax.benchmark import lm

  is_int8 = options.dtype == 'int8'
  if is_int8 and options.only != 'decode':
    raise flags.UsageError(
      '--dtype int8: nothing is trained in int8; add --only decode.'
    )
  model = lm.config(dtype='float32' if is_int8 else options.dtype)
  if options.only != 'train':
    for batch_size in options.batch_size:
      _print(
        lm.measure_decoding(
          model,
          batch_size=batch_size,
          dtype=options.dtype,
          segment_length=options.segment_length,
          num_runs=options.num_runs,
        )
      )
  if options.only != 'decode':
    _print(lm.measure_training(model, batch_size=8, num_runs=options.num_runs))


def benchmark_torch(options: argparse.Namespace) -> None:
  """`musiclm benchmark torch`."""
  from musiclm_jax.benchmark import exported

  for measured in exported.measure(
    options.model,
    options.exported,
    batch_sizes=options.batch_size,
    seconds=options.seconds,
    num_runs=options.num_runs,
    compiled=options.compile,
  ):
    _print(measured)


def _print(measured: object) -> None:
  """One line, at once: a benchmark may be cut off."""
  fields = dataclasses.asdict(measured)
  line = {
    name: float(f'{value:.4g}') if isinstance(value, float) else value
    for name, value in fields.items()
  }
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  shell.run('benchmark')
