# SPDX-License-Identifier: Apache-2.0
"""How fast a run is, in its own units and beside what its devices could do."""

from __future__ import annotations

import dataclasses
import time

from musiclm_jax.training.meter import Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
  """What a step is worth.

  Attributes:
    num_examples: Rows of its batch.
    audio_seconds: Of all rows; `None` if their source does not say.
    num_devices: That share it.
    seconds_at_peak: One device's, if it did the step's useful FLOPs and nothing
      else, at its peak rate; `None` if that is not known.
  """

  num_examples: int
  audio_seconds: float | None
  num_devices: int
  seconds_at_peak: float | None

  def amounts(self, interval: Interval) -> dict[str, float]:
    """What is done in a second, by unit."""
    rate = interval.steps_per_second
    amounts = {'examples': rate * self.num_examples}
    if self.audio_seconds is not None:
      amounts['audio_seconds'] = rate * self.audio_seconds
    return amounts

  def mfu(self, interval: Interval) -> float | None:
    """Share of the devices' peak rate that useful FLOPs take."""
    if self.seconds_at_peak is None:
      return None
    return interval.steps_per_second * self.seconds_at_peak / self.num_devices

  def figures(self, interval: Interval) -> dict[str, float]:
    """All of it, by the names of metrics.jsonl."""
    amounts, mfu = self.amounts(interval), self.mfu(interval)
    figures = {
      'speed/steps_per_second': interval.steps_per_second,
      'speed/host_wait_share': interval.host_wait_share,
      **{f'speed/{unit}_per_second': a for unit, a in amounts.items()},
    }
    if 'audio_seconds' in amounts:
      figures['speed/audio_seconds_per_chip_second'] = (
        amounts['audio_seconds'] / self.num_devices
      )
    if mfu is not None:
      figures['speed/mfu'] = mfu
    return figures


class SaveClock:
  """Which part of its time a run stands still to save."""

  def __init__(self):
    """The run begins now."""
    self._since = time.monotonic()

  def figures(self, *, began: float) -> dict[str, float]:
    """Of the save that began then, by `time.monotonic`, and has returned."""
    now = time.monotonic()
    seconds = now - began
    share = seconds / max(now - self._since, 1e-9)
    self._since = now
    return {'speed/save_seconds': seconds, 'speed/save_share': share}
