# SPDX-License-Identifier: Apache-2.0
"""A run that stands still is ended and says where; one that goes on is not."""

import signal
import subprocess
import sys
import time

import jax
import pytest

from musiclm_jax.training import watchdog

# `go_on` lets it beat; it stands still in a function of its own.
RUN = """
import sys, threading, time
from musiclm_jax.training.watchdog import Watchdog

def wait_for_the_others():
  threading.Event().wait()

with Watchdog(seconds=1.0) as alive:
  print('watched', flush=True)
  for step in range(1, 31):
    time.sleep(0.1)
    alive.beat(step)
  print('beaten', flush=True)
  wait_for_the_others()
"""


def test_a_run_that_stands_still_ends_with_its_stacks_and_a_status():
  run = subprocess.Popen(
    [sys.executable, '-c', RUN],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert run.stdout.readline() == 'watched\n'
  # Suspended for longer than it may stand still.
  run.send_signal(signal.SIGSTOP)
  time.sleep(1.5)
  run.send_signal(signal.SIGCONT)
  # It beats for three times as long as it may stand still.
  assert run.stdout.readline() == 'beaten\n'
  _, errors = run.communicate(timeout=30)
  assert run.returncode == watchdog.EXIT_HUNG == 134
  assert 'No step has followed step 30 for 1 s in process 0 of 1.' in errors
  assert 'in wait_for_the_others' in errors
  assert 'in _watch' in errors  # Of all threads.


def test_no_run_is_ended_where_none_is_to_be():
  with watchdog.Watchdog(seconds=None) as alive:
    alive.beat(1)
  with watchdog.Watchdog(seconds=0.01):
    pass  # Over before it stands still.
  time.sleep(0.1)
  with watchdog.Watchdog(seconds=0.2) as alive, alive.pause():
    time.sleep(0.5)


@pytest.mark.parametrize('seconds', [0, -1.0])
def test_no_time_at_all_is_an_error(seconds):
  with pytest.raises(ValueError, match='more than 0 s, or None'):
    watchdog.Watchdog(seconds=seconds)


def test_a_process_whose_batches_are_late_says_so(monkeypatch, caplog):
  caplog.set_level('WARNING', logger='absl')
  watchdog.warn_of_straggling(7, host_wait_share=0.9)
  assert not caplog.records  # That of the first process is in the metrics.
  monkeypatch.setattr(jax, 'process_index', lambda: 3)
  watchdog.warn_of_straggling(7, host_wait_share=0.3)
  assert not caplog.records
  for step in (7, 8):
    watchdog.warn_of_straggling(step, host_wait_share=0.9)
  (record,) = caplog.records  # Once a minute.
  assert 'Process 3 waited for its batches for 90%' in record.getMessage()
