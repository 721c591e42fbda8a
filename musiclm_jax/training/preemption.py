# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: finish the step, save, and exit so that a launcher starts again.

Schedulers send it before they take a machine away. A run that was stopped so
exits with `EXIT_STOPPED`, EX_TEMPFAIL of sysexits.h: not zero, so Kubernetes'
`restartPolicy: OnFailure`, systemd's `Restart=on-failure` and a shell's `until`
start it again, and it resumes; nor any status of a failure, so a launcher can
tell the two apart.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

EXIT_STOPPED = 75


class StopSignal:
  """Within it, SIGTERM is a request that the loop asks about."""

  def __init__(self):
    self._received = False
    self._before: Any = None

  def __enter__(self) -> StopSignal:
    # With several processes JAX itself listens, and a handler of ours would
    # take the signal from it. Python allows handlers in the main thread only.
    main = threading.current_thread() is threading.main_thread()
    if jax.process_count() == 1 and main:
      self._before = signal.signal(signal.SIGTERM, self._receive)
    return self

  def __exit__(self, *unused_error: Any) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def requested(self, step: int) -> bool:
    """Whether to stop after `step`; every process gets the same answer."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._received

  def _receive(self, *unused_signal: Any) -> None:
    logging.info('SIGTERM: the run saves after this step and stops.')
    self._received = True
