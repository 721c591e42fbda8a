# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run: one live line, or plain lines in a log file."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from typing import Any

import rich.console
import rich.progress

from musiclm_jax.training.meter import Interval


class Progress:
  """Shows the intervals of a run as they complete."""

  def __init__(
    self,
    *,
    num_steps: int,
    start: int = 0,
    active: bool = True,
    console: rich.console.Console | None = None,
  ):
    """Draws nothing yet.

    Args:
      num_steps: Where the run ends.
      start: Where it goes on from.
      active: False in every process but the first.
      console: Where to draw; stderr if left out.
    """
    self._num_steps = num_steps
    self._console = console or rich.console.Console(
      file=sys.stderr, quiet=not active
    )
    self._live = self._console.is_terminal
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn('step'),
      rich.progress.MofNCompleteColumn(),
      rich.progress.BarColumn(bar_width=16),
      rich.progress.TextColumn('{task.fields[figures]}'),
      console=self._console,
      disable=not self._live,
    )
    self._task = self._bar.add_task(
      '', total=num_steps, completed=start, figures=''
    )

  def __enter__(self) -> Progress:
    self._bar.start()
    return self

  def __exit__(self, *unused_error: Any) -> None:
    self._bar.stop()

  def interval(
    self,
    interval: Interval,
    speed: Mapping[str, float],
    *,
    mfu: float | None = None,
  ) -> None:
    """Shows an interval; `speed` holds more figures a second, by unit."""
    left = (self._num_steps - interval.step) / interval.steps_per_second
    parts = [
      f'loss {interval.metrics.get("loss", float("nan")):.4g}',
      f'{interval.steps_per_second:.3g} step/s',
      *(
        f'{value:.3g} {unit.replace("_", "-")}/s'
        for unit, value in speed.items()
      ),
      *(() if mfu is None else (f'MFU {mfu:.0%}',)),
      f'host wait {interval.host_wait_share:.0%}',
      f'ETA {datetime.timedelta(seconds=round(left))}',
    ]
    figures = ' · '.join(parts)
    self._bar.update(self._task, completed=interval.step, figures=figures)
    if not self._live:
      self.say(f'step {interval.step}/{self._num_steps} · {figures}')

  def say(self, line: str) -> None:
    """Writes a line that stays, above the live one if there is one."""
    self._console.print(line, highlight=False, soft_wrap=True, markup=False)
