# SPDX-License-Identifier: Apache-2.0
"""Runs a verb on Vertex AI, by XManager.

  python launch/xm_launch.py --name=coarse --requirements=a100=8 -- \
    train --gin_file=experiments/musiclm_coarse.gin \
    --gin_file=partitioning/gpu8.gin --gin.TOKENS="'/gcs/B/tokens'" \
    --gin.MODEL_DIR="'gs://B/runs/coarse'"

Packages launch/Dockerfile and adds the run to an experiment, as a job of one
host; launch/gke.py takes several. XManager tells no exit codes: whatever fails is
started again, and a run resumes. It knows machines with a100 (of 40 GB) and l4
alone, so others are refused here. `pip install xmanager==0.8.5.post1` first (older
ones quote arguments), but for --dry_run, which prints what would be added.
"""

import argparse
import asyncio
import json
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Any other GPU is asked for with a machine that cannot hold it.
_GPUS = ('a100', 'l4')


_IMAGE = {
  'path': str(_ROOT),
  'dockerfile': str(_ROOT / 'launch' / 'Dockerfile'),
}


async def launch(flags: argparse.Namespace) -> None:
  """Adds the job, and again when it has failed."""
  # Here, so that a dry run needs no XManager.
  from xmanager import xm, xm_local

  executor = xm_local.Vertex(
    requirements=xm.JobRequirements(**flags.requirements)
  )
  async with xm_local.create_experiment(flags.name) as experiment:
    [executable] = experiment.package(
      [xm.dockerfile_container(executor.Spec(), **_IMAGE)]
    )
    for restarts in range(flags.max_restarts + 1):
      job = xm.Job(executable=executable, executor=executor, args=flags.command)
      unit = await experiment.add(job)
      try:
        await unit.wait_until_complete()
        return
      except xm.ExperimentUnitError as error:
        print(
          f'xm_launch: failed, {restarts} restarts: {error}', file=sys.stderr
        )
  sys.exit(1)


def _requirements(text: str) -> dict[str, int]:
  try:
    kind, amount = text.split('=')
    if kind in _GPUS:
      return {kind: int(amount)}
  except ValueError:
    pass
  raise argparse.ArgumentTypeError(
    f'wanted is KIND=AMOUNT with a kind of {_GPUS}, such as a100=8; not'
    f' {text!r}.'
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--name', default='musiclm', help='of the experiment')
  parser.add_argument(
    '--requirements',
    type=_requirements,
    required=True,
    help='GPUs of the host: a100=1, 2, 4 or 8, or l4=1, 2, 4 or 8',
  )
  parser.add_argument('--max_restarts', type=int, default=20)
  parser.add_argument('--dry_run', action='store_true')
  parser.add_argument(
    'command', nargs='+', help='a verb of musiclm with its flags, after `--`'
  )
  flags = parser.parse_args()
  if flags.dry_run:
    print(
      json.dumps(
        {
          'experiment': flags.name,
          'executable': _IMAGE,
          'executor': {'Vertex': flags.requirements},
          'args': flags.command,
        },
        indent=2,
      )
    )
  else:
    asyncio.run(launch(flags))


if __name__ == '__main__':
  main()
