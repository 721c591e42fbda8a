# SPDX-License-Identifier: Apache-2.0
"""Turns the metrics of single steps into figures, without waiting for a device.

Metrics come as device arrays of steps that may still be running. They are read
when `_NUM_IN_FLIGHT` newer steps have been dispatched, which also keeps the
host from running further ahead than that.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping

import jax
import numpy as np

from musiclm_jax.metrics import WeightedMean

_NUM_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
  """Figures of the steps since the last interval.

  Attributes:
    step: The last step of it.
    metrics: Means over its steps; what nothing was counted for is left out.
    steps_per_second: While steps ran: hooks are not counted.
    host_wait_share: Of that time, the part spent waiting for host batches.
  """

  step: int
  metrics: Mapping[str, float]
  steps_per_second: float
  host_wait_share: float


class Meter:
  """Collects the metrics of steps in their order."""

  def __init__(
    self,
    *,
    num_skipped_in_a_row: int,
    max_skipped_in_a_row: int,
    log_every_steps: int,
  ):
    """Begins to count.

    Args:
      num_skipped_in_a_row: Of the state that the run goes on from.
      max_skipped_in_a_row: More than these end the run.
      log_every_steps: Steps of an interval; it ends at their multiples.
    """
    self._row = num_skipped_in_a_row
    self._max_row = max_skipped_in_a_row
    self._every = log_every_steps
    self._in_flight = collections.deque()
    self._sums: dict[str, np.ndarray] = {}
    self.start_clock()

  def start_clock(self) -> None:
    """Times the interval from now on, so that compilation is not counted."""
    self._start = time.monotonic()
    self._excluded = 0.0
    self._waited = 0.0
    self._num_steps = 0

  def exclude(self, seconds: float) -> None:
    """Takes time that was not spent on steps off the clock."""
    self._excluded += seconds

  def wait(self, seconds: float) -> None:
    """Counts time in which the host had no batch."""
    self._waited += seconds

  def add(
    self, step: int, metrics: Mapping[str, WeightedMean]
  ) -> list[Interval]:
    """Takes the metrics of a step just dispatched; gives what is complete."""
    for leaf in jax.tree.leaves(metrics):
      leaf.copy_to_host_async()
    self._in_flight.append((step, metrics))
    return self._read_until(_NUM_IN_FLIGHT)

  def settle(self) -> list[Interval]:
    """Waits for every step that was dispatched."""
    return self._read_until(0)

  def finish(self) -> list[Interval]:
    """Waits for every step, and ends the interval wherever it is."""
    intervals = self._read_until(0)
    return intervals + ([self._end_interval()] if self._num_steps else [])

  def _read_until(self, num_in_flight: int) -> list[Interval]:
    intervals = []
    while len(self._in_flight) > num_in_flight:
      step, metrics = self._in_flight.popleft()
      self._read(step, jax.device_get(metrics))
      if step % self._every == 0:
        intervals.append(self._end_interval())
    return intervals

  def _read(self, step: int, metrics: Mapping[str, WeightedMean]) -> None:
    self._count_skips(step, skipped=bool(metrics['skipped'].total > 0))
    for name, mean in metrics.items():
      pair = np.asarray([mean.total, mean.weight], np.float64)
      self._sums[name] = self._sums.get(name, 0) + pair
    self._num_steps += 1
    self._step = step

  def _count_skips(self, step: int, *, skipped: bool) -> None:
    self._row = self._row + 1 if skipped else 0
    if self._row >= self._max_row:
      raise FloatingPointError(
        f'The loss or the gradient of {self._row} steps in a row, up to step'
        f' {step}, was not finite. None of them changed the model. Lower the'
        ' learning rate, set clip_norm, or look at the data of these batches;'
        ' then start again, and the run goes on from its last checkpoint.'
      )

  def _end_interval(self) -> Interval:
    seconds = time.monotonic() - self._start - self._excluded
    interval = Interval(
      step=self._step,
      metrics={
        name: float(total / weight)
        for name, (total, weight) in self._sums.items()
        if weight
      },
      steps_per_second=self._num_steps / max(seconds, 1e-9),
      host_wait_share=min(self._waited / max(seconds, 1e-9), 1.0),
    )
    self._sums = {}
    self.start_clock()
    return interval
