# SPDX-License-Identifier: Apache-2.0
"""What would be added, and an experiment that is played by objects of ours."""

import argparse
import asyncio
import contextlib
import json
import pathlib
import subprocess
import sys
import types

import pytest

from launch import xm_launch

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = ['train', "--gin.MODEL_DIR='gs://b/a run'"]


def test_dry_run_says_what_would_be_added_and_needs_no_xmanager():
  done = subprocess.run(
    [sys.executable, 'launch/xm_launch.py', '--dry_run']
    + ['--requirements=a100=8', '--', *COMMAND],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == {
    'experiment': 'musiclm',
    'executable': {
      'path': str(ROOT),
      'dockerfile': str(ROOT / 'launch' / 'Dockerfile'),
    },
    'executor': {'Vertex': {'a100': 8}},
    'args': COMMAND,
  }


@pytest.mark.parametrize('wanted', ['h100=8', 'a100', 'a100=many'])
def test_gpu_that_xmanager_has_no_machine_for_is_an_error(wanted):
  done = subprocess.run(
    [sys.executable, 'launch/xm_launch.py', '--dry_run']
    + [f'--requirements={wanted}', '--', *COMMAND],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert f"such as a100=8; not '{wanted}'" in done.stderr


class Failed(RuntimeError):
  """XManager's, of a unit that failed."""


@pytest.fixture
def experiment(monkeypatch):
  """Jobs that were added; the first `num_failures` of them fail."""
  found = types.SimpleNamespace(jobs=[], num_failures=0)

  class Executor:
    Spec = dict

    def __init__(self, requirements):
      self.requirements = requirements

  async def wait(number):
    if number < found.num_failures:
      raise Failed('preempted')

  async def add(job):
    found.jobs.append(job)
    number = len(found.jobs) - 1
    return types.SimpleNamespace(wait_until_complete=lambda: wait(number))

  @contextlib.asynccontextmanager
  async def create_experiment(name):
    yield types.SimpleNamespace(add=add, package=lambda packages: packages)

  xm = types.SimpleNamespace(
    JobRequirements=dict,
    Job=lambda **fields: fields,
    dockerfile_container=lambda spec, **fields: fields,
    ExperimentUnitError=Failed,
  )
  xm_local = types.SimpleNamespace(
    Vertex=Executor, create_experiment=create_experiment
  )
  package = types.ModuleType('xmanager')
  package.xm, package.xm_local = xm, xm_local
  monkeypatch.setitem(sys.modules, 'xmanager', package)
  return found


def flags(**given):
  given = {'name': 'n', 'max_restarts': 2, **given}
  return argparse.Namespace(requirements={'a100': 8}, command=COMMAND, **given)


def test_failed_job_is_added_again_with_the_same_command(experiment, capsys):
  experiment.num_failures = 2
  asyncio.run(xm_launch.launch(flags()))
  assert len(experiment.jobs) == 3
  for job in experiment.jobs:
    assert job['args'] == COMMAND
    assert job['executor'].requirements == {'a100': 8}
    assert pathlib.Path(job['executable']['dockerfile']).is_file()
  assert 'failed, 1 restarts: preempted' in capsys.readouterr().err


def test_restarts_are_counted(experiment):
  experiment.num_failures = 9
  with pytest.raises(SystemExit) as ended:
    asyncio.run(xm_launch.launch(flags()))
  assert ended.value.code == 1
  assert len(experiment.jobs) == 3
