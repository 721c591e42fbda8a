# SPDX-License-Identifier: Apache-2.0
"""Says what a training run needs on a topology, without allocating anything.

  musiclm plan --gin_file=experiments/musiclm_coarse.gin --topology=v5e:16x16
  musiclm plan --gin_file=experiments/musiclm_coarse.gin \\
    --gin_file=partitioning/gpu8.gin --topology=h100:8 --search
  musiclm plan --gin_file=experiments/musiclm_codec.gin --topology=v5e:16x16 \\
    --compile
  musiclm plan --gin_file=experiments/musiclm_fine.gin \\
    --topology=v5e:16x16,v5p:4x4x4,v6e:16x16

A data set that is not given is stood in for by silence, or by codes of the
sizes of the paper. The exit code is 1 if the run does not fit one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from musiclm_jax.cli import flags
from musiclm_jax.cli import main as shell

_NUM_SHOWN = 10


def main(argv: Sequence[str]) -> None:
  parser = flags.Parser(prog='musiclm plan', description=__doc__)
  parser.add_gin_flags()
  parser.add_argument(
    '--topology',
    required=True,
    type=lambda names: names.split(','),
    help='KIND:SHAPE, such as v5e:16x16, v5p:4x4x4 or h100:4x8 (hosts × GPUs);'
    ' several make a table',
  )
  parser.add_argument('--json', action='store_true', help='for programs')
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
    '--search',
    action='store_true',
    help='rank meshes, rematerialization and microbatches that fit',
  )
  what.add_argument(
    '--compile',
    action='store_true',
    help="compile the step for TPUs ahead of time; needs the extra 'tpu'",
  )
  what.add_argument(
    '--decode', action='store_true', help='plan generation by a stage instead'
  )
  parser.add_argument(
    '--effort',
    type=float,
    help='of the compiler, -1 for the least; its own default if left out',
  )
  # What --compile starts, since compilers may crash.
  what.add_argument('--compiler', action='store_true', help=argparse.SUPPRESS)
  options = parser.parse_args(argv)
  from musiclm_jax.planning import devices

  chips = [devices.Topology.parse(name) for name in options.topology]
  with stand_ins(options) as given:
    options.gin_bindings = [*given, *options.gin_bindings]
    run = configured_run(options, topology=chips[0])
  if len(chips) > 1:
    plan_several(options, run, chips)
  elif options.compiler:
    compile_step(options, run)
  elif options.decode:
    plan_decoding(options, run)
  elif options.search:
    plan_search(options, run)
  else:
    plan_training(options, run, argv)


def plan_several(
  options: argparse.Namespace, run: Any, chips: Sequence[Any]
) -> None:
  """`musiclm plan --topology=A,B`: one row each."""
  from musiclm_jax.planning import plan as planning
  from musiclm_jax.planning import report

  if options.search or options.compile or options.compiler or options.decode:
    raise flags.UsageError('several topologies make a table of plans alone.')
  planner = planning.Planner(run)
  plans = [planner.plan(topology=topology) for topology in chips]
  if options.json:
    print(json.dumps([plan.to_json() for plan in plans]), flush=True)
  else:
    print(report.table([report.row(plan) for plan in plans]), flush=True)
  if unfit := [plan.topology for plan in plans if not plan.fits]:
    raise ValueError(
      f'The run does not fit {", ".join(unfit)}; plan for one of them alone to'
      ' see what does.'
    )


def plan_training(
  options: argparse.Namespace, run: Any, argv: Sequence[str]
) -> None:
  """`musiclm plan`, and with --compile."""
  from musiclm_jax.planning import ahead_of_time, report
  from musiclm_jax.planning import plan as planning

  planner = planning.Planner(run)
  plan = planner.plan()
  found = {'plan': plan.to_json()}
  text = report.page(plan)
  if options.compile and plan.fits:
    compiled = ahead_of_time.in_subprocess(
      [
        *(sys.executable, '-m', 'musiclm_jax.cli.plan', '--compiler'),
        *(arg for arg in argv if arg != '--compile'),
      ],
      topology=run.topology,
    )
    found['compiled'] = compiled
    text += '\n\n' + report.compared(plan, compiled)
  print(json.dumps(found) if options.json else text, flush=True)
  if not plan.fits:
    raise ValueError(_how_to_fit(planner, plan))


def compile_step(options: argparse.Namespace, run: Any) -> None:
  """In the process that `--compile` starts."""
  from musiclm_jax.planning import ahead_of_time

  print(json.dumps(ahead_of_time.compile_step(run, effort=options.effort)))


def plan_search(options: argparse.Namespace, run: Any) -> None:
  """`musiclm plan --search`."""
  from musiclm_jax.planning import plan as planning
  from musiclm_jax.planning import report, search

  plans = search.search(planning.Planner(run))
  if not plans:
    raise ValueError(f'Nothing fits {run.topology.name}; take more chips.')
  if options.json:
    print(json.dumps([plan.to_json() for plan in plans]))
  else:
    print(report.table([report.row(plan) for plan in plans[:_NUM_SHOWN]]))


def plan_decoding(options: argparse.Namespace, run: Any) -> None:
  """`musiclm plan --decode`."""
  from musiclm_jax.planning import decode

  plan = decode.plan(run.training.objective, topology=run.topology)
  print(json.dumps(plan.to_json()) if options.json else plan.page())


def _how_to_fit(planner: Any, plan: Any) -> str:
  from musiclm_jax.planning import search

  needed = plan.memory.total / 2**30
  found = search.nearest(planner)
  remedy = (
    'no mesh, microbatches or rematerialization of these chips does: take more'
    ' or larger ones'
    if found is None
    else f'what fits and changes least is {found.choice.flags()}, with'
    f' {found.memory.total / 2**30:.2f} GiB'
  )
  return (
    f'{needed:.2f} GiB a device do not fit {plan.topology}, which has'
    f' {plan.capacity / 2**30:.2f} GiB (a tenth is kept free); {remedy}.'
  )


def configured_run(options: argparse.Namespace, *, topology: Any) -> Any:
  """What the gin files bind to `loop.train`, and nothing that has an effect."""
  from gin import config as gin_config

  from musiclm_jax.cli import setup
  from musiclm_jax.planning import abstract
  from musiclm_jax.planning import plan as planning
  from musiclm_jax.training import loop

  setup.configure(options, root=loop.train, supplied=['gin_config'])
  bound = gin_config.get_bindings(loop.train, resolve_references=False)
  # Gin calls a reference when it copies it.
  bound = {
    name: copy.deepcopy(bound[name])
    for name in ('training', 'batches', 'partitioner', 'num_steps')
  }
  source = bound.pop('batches')
  return planning.Run(
    **bound,
    batch=abstract.batch_form(source),
    sample_rate_hz=getattr(source, 'sample_rate_hz', None),
    topology=topology,
  )


@contextlib.contextmanager
def stand_ins(options: argparse.Namespace) -> Iterator[list[str]]:
  """Bindings for what a run reads or writes and the command does not name."""
  from musiclm_jax.cli import setup
  from musiclm_jax.data import silence

  with tempfile.TemporaryDirectory() as folder:
    made = silence.write_all(pathlib.Path(folder))
    wanted = setup.required_macros(options) & made.keys()
    if shown := sorted(wanted - {'MODEL_DIR'}):
      print(f'Stand-ins of the sizes of the paper: {shown}.', file=sys.stderr)
    yield [f'{name} = {str(made[name])!r}' for name in sorted(wanted)]


if __name__ == '__main__':
  shell.run('plan')
