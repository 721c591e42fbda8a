# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from launch import local_pod

ROOT = pathlib.Path(__file__).parents[2]

TELL = """
import json, os, pathlib
names = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
told = {name: os.environ[name] for name in (*names, 'XLA_FLAGS')}
path = pathlib.Path(%r) / os.environ['JAX_PROCESS_ID']
path.write_text(json.dumps(told))
"""

ONE_FAILS = """
import os, sys, time
if os.environ['JAX_PROCESS_ID'] == '1':
  sys.exit(7)
time.sleep(60)
"""

SUM_OVER_THE_POD = """
import os
import jax
from musiclm_jax.cli import pod
pod.join()
import numpy as np
from jax.experimental import multihost_utils
index = jax.process_index()
got = multihost_utils.process_allgather(np.array(index + 1))
assert got.tolist() == [1, 2], got
assert jax.device_count() == 6 and jax.local_device_count() == 3
"""


ONE_FAILS_AFTER_JOINING = """
import sys, types
from musiclm_jax.cli import main, pod
from jax.experimental import multihost_utils
import jax

def probe(argv):
  pod.join()
  if jax.process_index() == 1:
    raise ValueError('out of luck.')
  multihost_utils.sync_global_devices('never')

sys.modules['musiclm_jax.cli.probe'] = types.SimpleNamespace(main=probe)
main.verbs = lambda: {'probe': ''}
main.run('probe')
"""


def test_every_process_is_told_who_it_is_and_where_the_first_one_is(tmp_path):
  command = [sys.executable, '-c', TELL % str(tmp_path)]
  assert local_pod.run(command, processes=3, devices_per_process=5) == 0
  told = [json.loads((tmp_path / str(i)).read_text()) for i in range(3)]
  assert [each['JAX_PROCESS_ID'] for each in told] == ['0', '1', '2']
  assert {each['JAX_NUM_PROCESSES'] for each in told} == {'3'}
  addresses = {each['JAX_COORDINATOR_ADDRESS'] for each in told}
  assert len(addresses) == 1
  assert addresses.pop().startswith('127.0.0.1:')
  assert told[0]['XLA_FLAGS'].endswith('device_count=5')


def test_when_one_process_fails_the_others_are_ended_with_a_message(capfd):
  start = time.monotonic()
  command = [sys.executable, '-c', ONE_FAILS]
  assert local_pod.run(command, processes=3, devices_per_process=1) == 7
  assert time.monotonic() - start < 30
  message = 'process 1 of 3 ended with status 7.'
  assert message in capfd.readouterr().err


@pytest.mark.parametrize(
  'ends, status',
  [
    (['exit 134', 'exit 1', 'kill -ABRT $$'], 1),
    (['exit 2', 'kill -KILL $$'], 2),
    (['exit 75', 'exit 1'], 1),
    (['exit 134', 'exit 75', 'kill -KILL $$'], 137),
    (['exit 75', 'exit 0'], 75),
    # What the others have lost is seen to end after them.
    (['exit 134', 'sleep 0.05; exit 1'], 1),
  ],
)
def test_an_own_error_of_one_process_is_the_status_of_the_pod(ends, status):
  pod = [subprocess.Popen(['sh', '-c', end]) for end in ends]
  pod[0].wait()
  assert local_pod._wait(pod, []) == status


ENDS_DIFFERENTLY_EACH_TIME = """
import os, pathlib, signal, sys
starts = pathlib.Path(%r)
last = os.environ['JAX_PROCESS_ID'] == '1'
if last:
  with starts.open('a') as file:
    file.write(os.environ['JAX_COORDINATOR_ADDRESS'] + '\\n')
  number = len(starts.read_text().splitlines())
  if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  sys.exit({2: 75, 3: 134, 4: %d}[number])
"""


@pytest.mark.parametrize(
  'max_restarts, last, status, starts',
  [(3, 0, 0, 4), (5, 1, 1, 4), (1, 0, 75, 2), (0, 0, 137, 1)],
)
def test_a_pod_is_started_again_where_that_may_help(
  tmp_path, capfd, max_restarts, last, status, starts
):
  code = ENDS_DIFFERENTLY_EACH_TIME % (str(tmp_path / 'starts'), last)
  got = local_pod.run(
    [sys.executable, '-c', code],
    processes=2,
    devices_per_process=1,
    max_restarts=max_restarts,
  )
  assert got == status
  addresses = (tmp_path / 'starts').read_text().splitlines()
  assert len(addresses) == starts
  err = capfd.readouterr().err
  assert 'process 1 of 2 ended with status 137.' in err
  again = f'is started again ({starts - 1} of {max_restarts})'
  assert (again in err) == (starts > 1)


SAVES_SLOWLY = """
import os, pathlib, signal, sys, time
mark = pathlib.Path(%r) / os.environ['JAX_PROCESS_ID']

def save(*_):
  time.sleep(2 * int(os.environ['JAX_PROCESS_ID']))
  mark.with_suffix('.saved').touch()
  sys.exit(75)

signal.signal(signal.SIGTERM, save)
mark.touch()
time.sleep(60)
"""


def test_a_pod_that_is_asked_to_stop_lets_every_process_save(tmp_path):
  code = SAVES_SLOWLY % str(tmp_path)
  start_pod = (
    'import sys; from launch import local_pod;'
    f' sys.exit(local_pod.run([sys.executable, "-c", {code!r}],'
    ' processes=2, devices_per_process=1, max_restarts=3))'
  )
  pod = subprocess.Popen([sys.executable, '-c', start_pod], cwd=ROOT)
  while not all((tmp_path / str(i)).exists() for i in range(2)):
    assert pod.poll() is None
    time.sleep(0.05)
  pod.terminate()
  assert pod.wait(30) == 75
  assert all((tmp_path / f'{i}.saved').exists() for i in range(2))


def test_a_verb_is_run_with_its_own_flags():
  done = subprocess.run(
    [sys.executable, 'launch/local_pod.py', '--processes=2', '--']
    + ['train', '--gin_file=nowhere.gin'],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert "there is no gin file 'nowhere.gin'" in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.slow
def test_the_processes_find_one_another():
  command = [sys.executable, '-c', SUM_OVER_THE_POD]
  assert local_pod.run(command, processes=2, devices_per_process=3) == 0


@pytest.mark.slow
def test_a_process_that_fails_does_not_wait_for_those_that_wait_for_it(capfd):
  start = time.monotonic()
  command = [sys.executable, '-c', ONE_FAILS_AFTER_JOINING]
  assert local_pod.run(command, processes=2, devices_per_process=1) == 1
  # Else it takes the 30 s after which the other gives up.
  assert time.monotonic() - start < 25
  err = capfd.readouterr().err
  assert 'musiclm probe (process 1 of 2): out of luck.' in err
  assert 'process 1 of 2 ended with status 1.' in err


def trained(folder: pathlib.Path, *launcher: str) -> list[float]:
  """The losses that a run of the toy logged."""
  done = subprocess.run(
    [sys.executable, *launcher]
    + [f'--gin_file={ROOT}/tests/cli/toy.gin', '--gin.NUM_STEPS=6']
    + [f'--gin.MODEL_DIR={str(folder)!r}', '--gin.LOG_EVERY_STEPS=2'],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  lines = (folder / 'metrics' / 'metrics.jsonl').read_text().splitlines()
  figures = [json.loads(line) for line in lines]
  return [f['train/loss'] for f in figures if 'train/loss' in f]


@pytest.mark.slow
def test_a_pod_trains_as_one_process_does(tmp_path):
  pod = ['launch/local_pod.py', '--processes=2', '--devices_per_process=4']
  together = trained(tmp_path / 'pod', *pod, '--', 'train')
  alone = trained(tmp_path / 'alone', '-m', 'musiclm_jax.cli.train')
  assert len(alone) == 3
  assert together == pytest.approx(alone, rel=1e-5)
