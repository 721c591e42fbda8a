# SPDX-License-Identifier: Apache-2.0
"""Processes of a pod are killed at random, and the run does not show it.

KILLS=10 pytest tests/launch/test_local_pod_kills.py
"""

import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from musiclm_jax.checkpoints import bundle

ROOT = pathlib.Path(__file__).parents[2]

KILLS = int(os.environ.get('KILLS', 3))
NUM_STEPS = 20 * (KILLS + 1)
PROCESSES = 2


def start(model_dir, *, max_restarts=0):
  return subprocess.Popen(
    [sys.executable, 'launch/local_pod.py', f'--processes={PROCESSES}']
    + ['--devices_per_process=2', f'--max_restarts={max_restarts}', '--']
    + ['train', '--gin_file=tests/launch/tiny/slow.gin']
    + [f"--gin.MODEL_DIR='{model_dir}'", f'--gin.NUM_STEPS={NUM_STEPS}'],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''},
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(pod):
  _, errors = pod.communicate(timeout=600)
  assert pod.returncode == 0, errors
  return errors


def losses(model_dir):
  """Loss by step, as text: to the last bit."""
  path = model_dir / 'metrics' / 'metrics.jsonl'
  found = {}
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      fields = json.loads(line)
    except json.JSONDecodeError:
      continue  # The line that is being written.
    if 'train/loss' in fields:
      assert fields['step'] not in found
      found[fields['step']] = repr(fields['train/loss'])
  return found


def checksums(model_dir):
  """Of every leaf of the last state: parameters, optimizer, counters."""
  host = model_dir / 'checkpoints' / str(NUM_STEPS) / 'host' / 'metadata'
  return json.loads(host.read_text())['checksums']


def processes_of(pod):
  children = pathlib.Path(f'/proc/{pod.pid}/task/{pod.pid}/children')
  return [int(pid) for pid in children.read_text().split()]


@pytest.mark.slow
def test_processes_that_are_killed_at_random_lose_nothing(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  began = time.monotonic()
  pod = start(whole)
  while not losses(whole):
    assert pod.poll() is None, pod.stderr.read()
    time.sleep(0.01)
  startup_seconds = time.monotonic() - began
  finish(pod)

  pod = start(killed, max_restarts=KILLS)
  drawn = []
  gone = set()
  for number in range(KILLS):
    while len(pids := set(processes_of(pod)) - gone) < PROCESSES:
      assert pod.poll() is None, pod.stderr.read()
      time.sleep(0.01)
    # Among steps or in a save; every third time, sooner: before the first step.
    step = max(losses(killed), default=0) + random.randint(1, 15)
    share = random.random() if number % 3 == 1 else math.inf
    began = time.monotonic()
    while (
      time.monotonic() - began < share * startup_seconds
      and max(losses(killed), default=0) < step
    ):
      assert pod.poll() is None, pod.stderr.read()
      time.sleep(0.005)
    victim = random.choice(sorted(pids))
    os.kill(victim, signal.SIGKILL)
    drawn.append(f'at step {step}, at {share:.0%} of the start')
    gone |= pids
  print('killed', '; '.join(drawn))
  errors = finish(pod)
  assert f'is started again ({KILLS} of {KILLS})' in errors
  assert errors.count('ended with status 137.') == KILLS

  assert losses(killed) == losses(whole)
  assert len(set(losses(whole).values())) > NUM_STEPS // 2
  assert checksums(killed) == checksums(whole)
  assert len(checksums(whole)) > 5
  fingerprints = {bundle.load(folder).fingerprint for folder in (whole, killed)}
  assert len(fingerprints) == 1
