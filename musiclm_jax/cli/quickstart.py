# SPDX-License-Identifier: Apache-2.0
"""From nothing to a model that reconstructs music: what `make demo` runs.

  musiclm quickstart --output runs/quickstart

Renders a little of the default data set, trains a tiny SoundStream on it, and
reconstructs a piece that it never heard. Every step is an ordinary command,
which is shown before it runs; an interrupted quickstart goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

ORIGINAL = 'audio/original.wav'
RECONSTRUCTION = 'reconstruction.wav'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """One command.

  Attributes:
    about: What it does, in a few words.
    argv: The verb and its arguments.
    done: A file that exists once it has finished; `None` to run it always.
  """

  about: str
  argv: tuple[str, ...]
  done: pathlib.Path | None = None


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm quickstart', description=__doc__)
  parser.add_argument(
    '--output', default='runs/quickstart', help='folder to write to'
  )
  options = parser.parse_args(argv)
  quickstart(options)


def quickstart(options: argparse.Namespace) -> None:
  """`musiclm quickstart`."""
  output = pathlib.Path(options.output)
  todo = steps(output)
  began = time.monotonic()
  for number, step in enumerate(todo, start=1):
    print(f'\n[{number}/{len(todo)}] {step.about}', flush=True)
    print(f'  $ musiclm {_typed(step.argv)}', flush=True)
    if step.done is not None and step.done.exists():
      print(f'  {step.done} is there already.', flush=True)
    else:
      _run(step)
  seconds = time.monotonic() - began
  print(f'\nDone in {seconds // 60:.0f} min {seconds % 60:.0f} s. Listen to:')
  for name in (ORIGINAL, RECONSTRUCTION):
    print(f'  {output / "evaluation" / name}')
  print(f'and look at {output / "evaluation" / "codec.png"}')


def steps(output: pathlib.Path) -> list[Step]:
  """The commands, in order."""
  corpus, model = output / 'tunebook', output / 'codec'
  evaluation = output / 'evaluation'
  return [
    Step(
      about='Render 60 tunes of the default data set',
      argv=(
        'data',
        'prepare',
        '--gin_file=data/tunebook.gin',
        '--gin.MAX_TUNES=60',
        f'--output={corpus}',
      ),
      done=corpus / 'corpus.json',
    ),
    Step(
      about='Train a tiny SoundStream on them',
      argv=(
        'train',
        '--gin_file=experiments/codec_tiny.gin',
        f"--gin.MODEL_DIR='{model}'",
        f"--gin.CORPUS='{corpus}'",
      ),
      done=model / 'model.json',
    ),
    Step(
      about='Measure it on held-out tunes, beside Opus',
      argv=(
        'evaluate',
        'codec',
        f'--model={model}',
        f'--corpus={corpus}',
        '--split=test',
        '--num_clips=3',
        '--metrics=mel_distance_db,si_sdr_db',
        f'--output={evaluation}',
      ),
    ),
    Step(
      about='Reconstruct one of them',
      argv=(
        'reconstruct',
        f'--model={model}',
        str(evaluation / ORIGINAL),
        str(evaluation / RECONSTRUCTION),
      ),
    ),
  ]


def _typed(argv: Sequence[str]) -> str:
  """As one would type it: shlex turns gin's quotes into a thicket."""
  return ' '.join(f'"{a}"' if "'" in a else shlex.quote(a) for a in argv)


def _run(step: Step) -> None:
  """Runs a step as the user would, so that each leaves its memory behind."""
  verb, *arguments = step.argv
  command = [sys.executable, '-m', f'musiclm_jax.cli.{verb}', *arguments]
  code = subprocess.run(command, check=False).returncode
  if code:
    raise ChildProcessError(
      f'the step "{step.about}" ended with code {code}; mend what it says and'
      ' run the quickstart again, it goes on from there.'
    )


if __name__ == '__main__':
  shell.run('quickstart')
