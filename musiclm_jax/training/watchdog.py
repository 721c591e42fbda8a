# SPDX-License-Identifier: Apache-2.0
"""A run that stands still is ended, with the stacks that say where it stood.

A dead disk, or a process that never arrives, leaves every process of a pod
waiting in a collective, for ever. A thread beside the steps notices, writes
what every thread was doing, and ends the process with `EXIT_HUNG`, which a
launcher answers by starting the pod again, from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging

# As if by SIGABRT, with which JAX ends a process whose pod has lost another.
EXIT_HUNG = 128 + signal.SIGABRT

# The whole pod stands still together, and every process has stacks to write
# before the first one's end breaks the others' connections.
_SECONDS_FOR_THE_OTHERS = 5.0

_NUM_TICKS = 20

_STRAGGLING_SHARE = 0.5
_SECONDS_BETWEEN_WARNINGS = 60


class Watchdog:
  """Within it, more than so many seconds without a `beat` end the process."""

  def __init__(self, *, seconds: int | float | None):
    """Does not watch yet.

    Args:
      seconds: The longest time between two beats; `None` for any.
    """
    if seconds is not None and seconds <= 0:
      raise ValueError(
        f'A run cannot be ended after {seconds} s without a step; give more'
        ' than 0 s, or None to wait for ever.'
      )
    self._seconds = seconds
    # Asked now: a call of JAX may not return once the run stands still.
    self._process = (jax.process_index(), jax.process_count())
    self._step = 0
    self._num_beats = 0
    self._pauses = False
    self._over = threading.Event()

  def __enter__(self) -> Watchdog:
    if self._seconds is not None:
      threading.Thread(target=self._watch, name='watchdog', daemon=True).start()
    return self

  def __exit__(self, *unused_error: Any) -> None:
    self._over.set()

  def beat(self, step: int) -> None:
    """The run is alive: `step` is done, or part of what is due after it."""
    self._step = step
    self._num_beats += 1

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Within it the run may take its time."""
    self._pauses = True
    try:
      yield
    finally:
      self._num_beats += 1
      self._pauses = False

  def _watch(self) -> None:
    # In ticks, not by the clock: a machine that was suspended has not hung.
    seen = silent_ticks = 0
    while not self._over.wait(self._seconds / _NUM_TICKS):
      silent = self._num_beats == seen and not self._pauses
      silent_ticks = silent_ticks + 1 if silent else 0
      seen = self._num_beats
      if silent_ticks > _NUM_TICKS:
        self._end()
        return

  def _end(self) -> None:
    index, count = self._process
    logging.error(
      'No step has followed step %d for %g s in process %d of %d. The stacks of'
      ' its threads follow; it ends with status %d, and the same command goes'
      ' on from the last checkpoint.',
      self._step,
      self._seconds,
      index,
      count,
      EXIT_HUNG,
    )
    faulthandler.dump_traceback(file=sys.__stderr__)
    if count > 1:
      time.sleep(_SECONDS_FOR_THE_OTHERS)
    # At a usual exit Python would wait for the threads that stand still.
    os._exit(EXIT_HUNG)


def warn_of_straggling(step: int, *, host_wait_share: float) -> None:
  """Says so if the others wait for this process because its batches are late.

  The share of the first process is in the metrics; a share of any other is seen
  nowhere else, and the first waits in collectives, not for its batches.
  """
  if jax.process_index() > 0 and host_wait_share > _STRAGGLING_SHARE:
    logging.log_every_n_seconds(
      logging.WARNING,
      'Process %d waited for its batches for %.0f%% of the time before step %d;'
      ' all others wait for it.',
      _SECONDS_BETWEEN_WARNINGS,
      jax.process_index(),
      100 * host_wait_share,
      step,
    )
