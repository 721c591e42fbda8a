# SPDX-License-Identifier: Apache-2.0
"""Which pod a process is of, by what each launcher puts in the environment."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from musiclm_jax.cli import flags, pod

ROOT = pathlib.Path(__file__).parents[2]

NAMED = {
  'JAX_COORDINATOR_ADDRESS': '127.0.0.1:7',
  'JAX_NUM_PROCESSES': '5',
  'JAX_PROCESS_ID': '3',
}


@pytest.fixture
def join(monkeypatch):
  """`pod.join` with variables, and what JAX is then asked for."""
  for name in os.environ:
    if name.startswith(('SLURM', 'JAX_NUM', 'JAX_PROC', 'JAX_COORD')):
      monkeypatch.delenv(name)

  def call(environment, *, platforms='cpu', place=(0, 1), found=True):
    calls = []

    def initialize(**arguments):
      calls.append(arguments)
      if not found:
        raise ValueError('coordinator_address should be defined.')

    with monkeypatch.context() as patch:
      patch.setattr(jax.distributed, 'initialize', initialize)
      patch.setattr(jax, 'process_index', lambda: place[0])
      patch.setattr(jax, 'process_count', lambda: place[1])
      before = jax.config.jax_platforms
      jax.config.update('jax_platforms', platforms)
      for name, value in environment.items():
        patch.setenv(name, value)
      try:
        pod.join()
      finally:
        jax.config.update('jax_platforms', before)
    return calls

  return call


def test_a_process_that_nobody_named_is_alone(join):
  assert join({}) == []
  # A shell within an allocation of Slurm is one task, whatever was allocated.
  assert join({'SLURM_NTASKS': '8', 'SLURM_STEP_NUM_TASKS': '1'}) == []


def test_a_process_is_who_the_environment_says(join):
  (call,) = join(NAMED, place=(3, 5))
  assert (call['num_processes'], call['process_id']) == (5, 3)
  # Slurm around it is not asked for what it has said already.
  assert call['cluster_detection_method'] == 'deactivate'
  around = {'SLURM_STEP_NUM_TASKS': '7', 'SLURM_STEP_NUM_NODES': '7'}
  assert join(NAMED | around, place=(3, 5)) == [call]


def test_a_task_of_slurm_is_who_slurm_says(join):
  a_node = {'SLURM_STEP_NUM_TASKS': '3', 'SLURM_STEP_NUM_NODES': '3'}
  assert join(a_node) == [{'num_processes': 3, 'local_device_ids': []}]
  a_gpu = {'SLURM_STEP_NUM_TASKS': '24', 'SLURM_STEP_NUM_NODES': '3'}
  assert join(a_gpu) == [{'num_processes': 24, 'local_device_ids': None}]


def test_a_host_of_tpus_asks_the_tpu(join):
  assert join({}, platforms='tpu,cpu') == [{}]
  first = {'JAX_COORDINATOR_ADDRESS': '10.0.0.1:8476'}
  assert join(first, platforms='tpu') == [{}]
  # One host that knows of no pod, as in a notebook.
  assert join({}, platforms='tpu,cpu', found=False) == [{}]


def test_a_tpu_of_several_hosts_without_a_first_one_is_an_error(join):
  with pytest.raises(flags.UsageError, match='has 4 hosts.*give JAX_COORD'):
    join({}, platforms='tpu,cpu', place=(1, 4), found=False)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'JAX_PROCESS_ID': None}, 'JAX_PROCESS_ID is not set'),
    ({'JAX_COORDINATOR_ADDRESS': None}, 'ADDRESS is not set'),
    ({'JAX_PROCESS_ID': 'first'}, "JAX_PROCESS_ID .*not 'first'"),
    ({'JAX_PROCESS_ID': '5'}, 'is 5, but .* of a pod of 5 are counted from 0'),
    ({'JAX_PROCESS_ID': '2'}, '2 of 5, but the TPU calls this host 3 of 5'),
  ],
)
def test_half_a_pod_or_another_one_is_an_error(join, changes, message):
  said = {k: v for k, v in (NAMED | changes).items() if v is not None}
  with pytest.raises(flags.UsageError, match=message):
    join(said, place=(3, 5))


class JaxRuntimeError(RuntimeError):
  """Named as JAX's."""


def test_the_end_of_another_process_is_told_from_a_fault_of_this_one(
  monkeypatch,
):
  lost = JaxRuntimeError('UNKNOWN: Gloo AllGather failed: closed by peer')
  assert not pod.has_lost_another(lost)  # There is no other.
  monkeypatch.setattr(pod, 'is_joined', lambda: True)
  assert pod.has_lost_another(lost)
  assert pod.has_lost_another(JaxRuntimeError('UNAVAILABLE: socket closed'))
  for own in (
    'RESOURCE_EXHAUSTED: 16 G',
    'INTERNAL: NCCL operation failed: unhandled cuda error (out of memory)',
    'INVALID_ARGUMENT: Gloo AllReduce failed: unknown data type',
  ):
    assert not pod.has_lost_another(JaxRuntimeError(own))
  for gone in (
    'INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or'
    ' there was a network error.\nLast NCCL warning: …',
    'UNKNOWN: Gloo AllReduce failed: [pair.cc:547] Read error: Connection'
    ' reset by peer',
    'UNKNOWN: Gloo AllReduce failed: [pair.cc:534] Connection closed by peer',
    'UNKNOWN: Gloo send failed: [buffer.cc:122] Timed out waiting 30000ms',
    'UNKNOWN: Gloo AllReduce failed: Application timeout caused pair closure',
  ):
    assert pod.has_lost_another(JaxRuntimeError(gone))
  assert not pod.has_lost_another(ValueError('Gloo'))
  in_a_save = OSError('A checkpoint could not be written')
  in_a_save.__cause__ = lost
  assert pod.has_lost_another(in_a_save)


ADD_UP = """
from musiclm_jax.cli import pod
pod.join()
import jax, numpy as np
from jax.experimental import multihost_utils
got = multihost_utils.process_allgather(np.array(jax.process_index() + 1))
assert got.tolist() == [1, 2], got
assert pod.name_of_process() == f' (process {jax.process_index()} of 2)'
"""


@pytest.mark.slow
def test_tasks_of_slurm_find_one_another():
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  step = {
    'JAX_COORDINATOR_PORT': str(port),
    'SLURM_JOB_ID': '7919',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_STEP_NUM_NODES': '1',
    'SLURM_STEP_NUM_TASKS': '2',
    'SLURM_NTASKS': '2',
  }
  tasks = [
    subprocess.Popen(
      [sys.executable, '-c', ADD_UP],
      cwd=ROOT,
      env=os.environ
      | step
      | {'SLURM_PROCID': str(index), 'SLURM_LOCALID': str(index)},
    )
    for index in range(2)
  ]
  assert [task.wait(100) for task in tasks] == [0, 0]


# JAX waits for 100 s for a sign of life.
TRAIN = """
import functools, jax
jax.distributed.initialize = functools.partial(
  jax.distributed.initialize, heartbeat_timeout_seconds=10
)
from musiclm_jax.cli import main
main.run('train')
"""


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_a_pod_that_loses_a_process_ends_by_itself_and_says_so(
  tmp_path, victim
):
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  run = tmp_path / 'run'
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', TRAIN, '--gin_file=tests/launch/tiny/slow.gin']
      + [f"--gin.MODEL_DIR='{run}'", '--gin.NUM_STEPS=1000'],
      cwd=ROOT,
      env=os.environ
      | {
        'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': str(index),
        'PYTHONPATH': str(ROOT),
        'XLA_FLAGS': '',
      },
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  while not (run / 'checkpoints' / '7' / 'commit_success.txt').exists():
    assert all(process.poll() is None for process in processes)
    time.sleep(0.05)
  processes[victim].kill()
  # Nobody but JAX tells it.
  _, said = processes[1 - victim].communicate(timeout=60)
  status = processes[1 - victim].returncode
  assert status in (-signal.SIGABRT, pod.EXIT_LOST), said
  assert 'another process of the pod' in said or 'another task died' in said
