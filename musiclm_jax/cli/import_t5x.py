# SPDX-License-Identifier: Apache-2.0
"""Publishes a stage that t5x trained, as a bundle like those of `train`.

  musiclm import_t5x --model_dir=runs/t5x --output=runs/semantic_stage

Needs no t5x: the parameters and what they are of are in MODEL_DIR.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm import_t5x', description=__doc__)
  parser.add_argument(
    '--model_dir', required=True, metavar='DIR', help='MODEL_DIR of the run'
  )
  parser.add_argument('--step', type=int, help='of a checkpoint; else the last')
  parser.add_argument(
    '--output', required=True, metavar='DIR', help='a folder not there yet'
  )
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.checkpoints import buckets

  if buckets.folder(options.output).exists():
    raise flags.UsageError(f'{options.output} is there already.')

  from musiclm_jax.checkpoints import bundle
  from musiclm_jax.integrations import t5x_checkpoint

  contents = t5x_checkpoint.read(options.model_dir, step=options.step)
  config = buckets.folder(options.model_dir) / bundle.CONFIG_GIN
  fingerprint = bundle.publish(
    options.output, contents, gin_config=config.read_text()
  )
  print(f'{options.output}: {fingerprint}')


if __name__ == '__main__':
  shell.run('import_t5x')
