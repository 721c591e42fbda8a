# SPDX-License-Identifier: Apache-2.0
"""Writes the music_lm.json that makes six trained bundles one model.

Five make an AudioLM, whose stages were trained without a condition: leave out
--conditioner, and prompts. Without --semantic a model cannot go on from audio.

  musiclm assemble --codec=runs/codec --semantic=runs/semantic \\
    --conditioner=runs/conditioner --semantic_stage=runs/semantic_stage \\
    --coarse_stage=runs/coarse_stage --fine_stage=runs/fine_stage \\
    --output=runs/model

The bundles stay where they are, and paths are kept relative to the output. What
was trained on codes of another model is refused, and nothing is written.

--guidance, --temperature, --top_k and --top_p become the model's own: what it is
sampled with wherever nobody says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from musiclm_jax.cli import flags, sampling_flags
from musiclm_jax.cli import main as shell


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm assemble', description=__doc__)
  for name in (
    'codec',
    'semantic',
    'conditioner',
    'semantic_stage',
    'coarse_stage',
    'fine_stage',
  ):
    parser.add_argument(
      f'--{name}',
      required=name not in ('conditioner', 'semantic'),
      metavar='DIR',
      help='folder of the bundle',
    )
  parser.add_argument(
    '--output', required=True, metavar='DIR', help='folder to write to'
  )
  sampling_flags.add(parser)
  options = parser.parse_args(argv)

  # Late, so that `--help` and a wrong command answer at once.
  from musiclm_jax.inference import assembly
  from musiclm_jax.inference.settings import SamplingConfig

  assembly.write(
    options.output,
    codec=options.codec,
    semantic=options.semantic,
    mulan=options.conditioner,
    stages={
      name: getattr(options, f'{name}_stage') for name in assembly.STAGES
    },
    sampling=sampling_flags.read(options, own=SamplingConfig()),
  )
  prompt = ' --prompt …' if options.conditioner else ''
  print(
    f'{options.output}: `musiclm generate --model {options.output}{prompt}`'
  )


if __name__ == '__main__':
  shell.run('assemble')
