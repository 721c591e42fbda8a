# SPDX-License-Identifier: Apache-2.0
"""Runs a verb by XManager: on Vertex AI, or in a container on this machine.

  python launch/xm_launch.py --name=coarse --requirements=h100=8 -- \
    train --gin_file=experiments/musiclm_coarse.gin \
    --gin_file=partitioning/h100x8.gin --gin.TOKENS="'/gcs/B/tokens'" \
    --gin.MODEL_DIR="'gs://B/runs/coarse'"

Packages launch/Dockerfile and adds the run to an experiment, as a job of one
host; launch/gke.py takes several. XManager tells no exit codes: whatever fails is
started again, and a run resumes. `pip install xmanager` first, but for --dry_run,
which prints what would be added.
"""

import argparse
import asyncio
import json
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_EXECUTORS = {'vertex': 'Vertex', 'local': 'Local'}


async def launch(flags: argparse.Namespace) -> None:
  """Adds the job, and again when it has failed."""
  # Here, so that a dry run needs no XManager.
  from xmanager import xm, xm_local

  executor = getattr(xm_local, _EXECUTORS[flags.executor])(
    requirements=xm.JobRequirements(**flags.requirements)
  )
  async with xm_local.create_experiment(flags.name) as experiment:
    [executable] = experiment.package(
      [
        xm.dockerfile_container(
          executor.Spec(),
          path=str(_ROOT),
          dockerfile=str(_ROOT / 'launch' / 'Dockerfile'),
        )
      ]
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
    pairs = (pair.split('=') for pair in text.split(','))
    return {name: int(amount) for name, amount in pairs}
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'wanted is KIND=AMOUNT, such as h100=8; not {text!r}.'
    ) from None


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--name', default='musiclm', help='of the experiment')
  parser.add_argument('--executor', choices=_EXECUTORS, default='vertex')
  parser.add_argument(
    '--requirements',
    type=_requirements,
    default={},
    help='of the host, as XManager names them: h100=8, a100_80gib=8, local_gpu=1',
  )
  parser.add_argument('--max_restarts', type=int, default=20)
  parser.add_argument('--dry_run', action='store_true')
  parser.add_argument(
    'command', nargs='+', help='a verb of musiclm with its flags, after `--`'
  )
  flags = parser.parse_args()
  if flags.dry_run:
    print(json.dumps(vars(flags), indent=2))
  else:
    asyncio.run(launch(flags))


if __name__ == '__main__':
  main()
