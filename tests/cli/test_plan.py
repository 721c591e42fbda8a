# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Where `make test-slow` puts it: a JAX that finds it looks for TPUs.
LIBTPU = pathlib.Path(sys.prefix) / 'libtpu'


def musiclm_plan(*argv, experiment='semantic_stage_tiny', **environment):
  """`musiclm plan`, in a process without run-time type checks."""
  return subprocess.run(
    [sys.executable, '-m', 'musiclm_jax.cli.plan']
    + [f'--gin_file=experiments/{experiment}.gin', *argv],
    cwd=ROOT,
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_plan_needs_neither_data_nor_the_chips():
  done = musiclm_plan('--topology=v5e:2x2', '--json', '--gin.NUM_STEPS=70')
  assert done.returncode == 0, done.stderr
  assert "Stand-ins of the sizes of the paper: ['TOKENS']" in done.stderr
  plan = json.loads(done.stdout)['plan']
  assert plan['num_steps'] == 70
  assert plan['mesh'] == {'data': 4, 'fsdp': 1, 'tensor': 1}
  assert plan['fits']


@pytest.mark.slow
def test_what_does_not_fit_ends_with_what_does():
  done = musiclm_plan(
    '--topology=v5e:1x1',
    '--gin.BATCH_SIZE=512',
    experiment='semantic_stage_small',
  )
  assert done.returncode == 1
  assert 'DOES NOT FIT' in done.stdout
  assert 'GiB a device do not fit v5e:1x1, which has 15.75' in done.stderr
  # It kept all activations of all rows.
  assert 'changes least is FSDP=1 TENSOR=1' in done.stderr


@pytest.mark.slow
def test_decoding_is_planned_for_a_stage():
  done = musiclm_plan('--topology=h100:1', '--decode')
  assert done.returncode == 0, done.stderr
  assert 'semantic on h100:1' in done.stdout
  assert 'real-time factor' in done.stdout


def test_a_topology_that_is_none_is_one_line():
  done = musiclm_plan('--topology=v5e')
  assert done.returncode == 1
  assert 'A topology is KIND:SHAPE' in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.slow
def test_several_topologies_are_a_table():
  done = musiclm_plan('--topology=v5e:2x2,h100:1')
  assert done.returncode == 0, done.stderr
  header, _, *rows = done.stdout.splitlines()
  assert header.startswith('| topology | mesh')
  assert [row.split(' | ')[0] for row in rows] == ['| v5e:2x2', '| h100:1']


@pytest.mark.slow
def test_a_table_ends_with_an_error_that_names_what_does_not_fit():
  done = musiclm_plan(
    '--topology=v5e:1x1,v5e:16x16',
    '--gin.BATCH_SIZE=512',
    experiment='semantic_stage_small',
  )
  assert done.returncode == 1
  small, large = done.stdout.splitlines()[2:]
  assert '| DOES NOT FIT |' in small and '| fits |' in large
  assert 'The run does not fit v5e:1x1; ' in done.stderr


@pytest.mark.slow
def test_a_search_ranks_what_fits():
  done = musiclm_plan('--topology=v5e:2x2', '--search', '--json')
  assert done.returncode == 0, done.stderr
  plans = json.loads(done.stdout)
  assert len(plans) > 10
  # What the configuration says, planned alone, stands behind all faster ones.
  alone = musiclm_plan('--topology=v5e:2x2', '--json')
  assert alone.returncode == 0, alone.stderr
  plan = json.loads(alone.stdout)['plan']
  faster = [other['step_seconds'] < plan['step_seconds'] for other in plans]
  assert faster == sorted(faster, reverse=True)
  assert plan in plans[sum(faster) :]
  assert 0 < sum(faster) < len(plans) - 1


@pytest.mark.slow
@pytest.mark.skipif(
  not LIBTPU.is_dir(), reason='libtpu is not there: make .venv/libtpu'
)
def test_the_step_compiles_for_chips_that_are_not_here():
  done = musiclm_plan(
    '--topology=v5e:4x4',
    '--gin.BATCH_SIZE=1024',
    '--compile',
    '--effort=-1',
    '--json',
    PYTHONPATH=str(LIBTPU),
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  ours, theirs = found['plan']['memory'], found['compiled']
  at_rest = sum(
    ours[kind] for kind in ('parameters', 'optimizer', 'average', 'batch')
  )
  # What is kept between steps is exact, up to the padding of small arrays.
  assert theirs['argument_bytes'] == pytest.approx(at_rest, rel=0.05)
  # Short rows, of which most memory is activations: a tenth low, 0.92 here.
  assert 0.85 < found['plan']['memory_total'] / theirs['peak_bytes'] < 1
