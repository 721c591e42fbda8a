# SPDX-License-Identifier: Apache-2.0
"""SIGTERM becomes a request, and is given back afterwards."""

import os
import signal

from musiclm_jax.training.preemption import StopSignal


def test_signal_is_a_request_to_stop_and_nothing_more():
  before = signal.getsignal(signal.SIGTERM)
  with StopSignal() as stop:
    assert not stop.requested(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested(2)
    assert stop.requested(3)
  assert signal.getsignal(signal.SIGTERM) is before
