# SPDX-License-Identifier: Apache-2.0
"""The bar of `write_corpus`: clips, hours of audio, speed, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich import progress

from musiclm_jax.data import shards


class Bar:
  """What has been written, by this run and by those before it."""

  def __init__(self, display: progress.Progress, task: progress.TaskID):
    self._display, self._task = display, task
    self._start = time.monotonic()
    self._seconds = 0.0
    self._rejected = 0

  def resume(self, report: shards.ShardReport) -> None:
    """Counts a shard that was there already; it says nothing of the speed."""
    self._rejected += len(report.rejected)
    task = self._display.tasks[self._task]
    done = len(report.clips) + len(report.rejected)
    # Off the total and not onto the bar, or the time left would be too short.
    self._display.update(self._task, total=task.total - done)

  def advance(self, seconds: float, rejected: bool) -> None:
    """Counts one clip."""
    self._seconds += seconds
    self._rejected += rejected
    elapsed = max(time.monotonic() - self._start, 1e-9)
    self._display.update(
      self._task,
      advance=1,
      audio=f'{self._seconds / 3600:.2f} h of audio',
      speed=f'{self._seconds / elapsed:.0f} h/h',
      rejected=f'{self._rejected} rejected',
    )


@contextlib.contextmanager
def bar(*, title: str, num_clips: int, visible: bool) -> Iterator[Bar]:
  """Draws a bar while the block runs; on no terminal, only its last state."""
  columns = (
    progress.TextColumn('{task.description}'),
    progress.BarColumn(),
    progress.MofNCompleteColumn(),
    progress.TextColumn('{task.fields[audio]}'),
    progress.TextColumn('{task.fields[speed]}'),
    progress.TextColumn('{task.fields[rejected]}'),
    progress.TimeRemainingColumn(),
  )
  with progress.Progress(*columns, disable=not visible) as display:
    task = display.add_task(
      title, total=num_clips, audio='', speed='', rejected=''
    )
    yield Bar(display, task)
