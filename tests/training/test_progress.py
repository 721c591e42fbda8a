# SPDX-License-Identifier: Apache-2.0
"""What a person reads, on a terminal and in a log file."""

import io

import rich.console

from musiclm_jax.training.meter import Interval
from musiclm_jax.training.progress import Progress

INTERVAL = Interval(
  step=30,
  metrics={'loss': 0.12345, 'skipped': 0.0},
  steps_per_second=2.0,
  host_wait_share=0.07,
)
LINE = (
  'loss 0.1235 · 2 step/s · 32 examples/s · 48.5 audio-seconds/s · host wait'
  ' 7% · ETA 0:00:35'
)


def shown(*, terminal, active=True, **figures):
  text = io.StringIO()
  console = rich.console.Console(
    file=text, force_terminal=terminal, width=200, quiet=not active
  )
  with Progress(num_steps=100, console=console) as progress:
    progress.say('compiled')
    progress.interval(
      INTERVAL, {'examples': 32.0, 'audio_seconds': 48.5}, **figures
    )
  return text.getvalue()


def test_log_file_gets_plain_lines():
  assert shown(terminal=False) == f'compiled\nstep 30/100 · {LINE}\n'


def test_mfu_is_shown_where_it_is_known():
  assert ' · MFU 41% · host wait 7%' in shown(terminal=False, mfu=0.414)


def test_terminal_gets_one_line_that_moves():
  text = shown(terminal=True)
  assert 'compiled' in text and '30/100' in text and LINE in text
  assert '\x1b[' in text


def test_other_processes_are_silent():
  assert shown(terminal=False, active=False) == ''
