# SPDX-License-Identifier: Apache-2.0
"""Processes of a pod are killed at random, and the run does not show it.

KILLS=10 SEED=7 pytest tests/launch/test_local_pod_kills.py
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from musiclm_jax.checkpoints import bundle
from tests.training.records import losses

ROOT = pathlib.Path(__file__).parents[2]

KILLS = int(os.environ.get('KILLS', 3))
SEED = int(os.environ.get('SEED', random.randrange(1000)))
NUM_STEPS = 20 * (KILLS + 1)
PROCESSES = 2
# Between one step, save or start and the next, on a machine with much else to do.
PATIENCE_SECONDS = 240


def start(model_dir, *, max_restarts=0):
  # To a file: a pipe that nobody reads is full one day, and the pod waits.
  log = pathlib.Path(f'{model_dir}.log')
  pod = subprocess.Popen(
    [sys.executable, 'launch/local_pod.py', f'--processes={PROCESSES}']
    + ['--devices_per_process=2', f'--max_restarts={max_restarts}', '--']
    + ['train', '--gin_file=tests/launch/tiny/slow.gin']
    + [f"--gin.MODEL_DIR='{model_dir}'", f'--gin.NUM_STEPS={NUM_STEPS}'],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''},
    stderr=log.open('w'),
  )
  pod.log = log
  return pod


def finish(pod):
  assert pod.wait(600) == 0, pod.log.read_text()
  return pod.log.read_text()


def wait_for(look, pod):
  """What `look` sees, as soon as it is anything."""
  deadline = time.monotonic() + PATIENCE_SECONDS
  while not (seen := look()):
    assert pod.poll() is None, pod.log.read_text()
    assert time.monotonic() < deadline, pod.log.read_text()
    time.sleep(0.005)
  return seen


def last_step(model_dir):
  return max(losses(model_dir), default=0)


def unfinished_saves(model_dir):
  """Folders that Orbax still writes to."""
  return {
    path.name
    for path in model_dir.glob('checkpoints/*')
    if not path.name.endswith('.unfinished')
    and not (path / 'commit_success.txt').exists()
  }


def checksums(model_dir):
  """Of every leaf of the last state: parameters, optimizer, counters."""
  host = model_dir / 'checkpoints' / str(NUM_STEPS) / 'host' / 'metadata'
  return json.loads(host.read_text())['checksums']


def processes_of(pod):
  children = pathlib.Path(f'/proc/{pod.pid}/task/{pod.pid}/children')
  return [int(pid) for pid in children.read_text().split()]


def draw_moment(draw, kind, model_dir, *, startup_seconds):
  """When to kill: what is true from then on, and how to say it."""
  if kind == 'start':
    seconds = draw.random() * startup_seconds
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end, f'{seconds:.1f} s after the start'
  if kind == 'steps':
    step = last_step(model_dir) + draw.randint(1, 15)
    return lambda: last_step(model_dir) >= step, f'after step {step}'
  before = unfinished_saves(model_dir)
  return lambda: unfinished_saves(model_dir) - before, 'in a save'


@pytest.mark.slow
def test_processes_that_are_killed_at_random_lose_nothing(tmp_path):
  print('SEED', SEED)
  draw = random.Random(SEED)
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  began = time.monotonic()
  pod = start(whole)
  wait_for(lambda: losses(whole), pod)
  startup_seconds = time.monotonic() - began
  finish(pod)

  pod = start(killed, max_restarts=KILLS)
  gone = set()

  def all_are_new():
    new = set(processes_of(pod)) - gone
    return len(new) == PROCESSES and new

  for number in range(KILLS):
    pids = sorted(wait_for(all_are_new, pod))
    moment, name = draw_moment(
      draw,
      ('steps', 'start', 'save')[number % 3],
      killed,
      startup_seconds=startup_seconds,
    )
    seen = wait_for(moment, pod)
    victim = draw.randrange(PROCESSES)
    os.kill(pids[victim], signal.SIGKILL)
    print(f'process {victim} killed {name}', seen)
    gone.update(pids)
  errors = finish(pod)
  assert f'is started again ({KILLS} of {KILLS})' in errors
  assert errors.count('ended with status 137.') == KILLS

  assert losses(killed) == losses(whole)
  assert len(set(losses(whole).values())) > NUM_STEPS // 2
  assert checksums(killed) == checksums(whole)
  assert len(checksums(whole)) > 5
  fingerprints = {bundle.load(folder).fingerprint for folder in (whole, killed)}
  assert len(fingerprints) == 1
