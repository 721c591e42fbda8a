# SPDX-License-Identifier: Apache-2.0
"""Changes to a crop that are drawn anew for every example.

An augmentation is a function of a waveform [samples] and one uniform draw in
[0, 1), which the loader takes from (seed, example number): the same example is
changed in the same way on every run and every machine.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

Samples = Float32[np.ndarray, ' samples']


@runtime_checkable
class Augmentation(Protocol):
  """One kind of change, with its settings."""

  def __call__(self, waveform: Samples, *, draw: float) -> Samples: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomGain:
  """A gain that is uniform in decibels. Ours, so that a codec learns all levels.

  Attributes:
    low_db: Smallest gain.
    high_db: Largest gain; never so much that the crop exceeds full scale.
  """

  low_db: int | float
  high_db: int | float

  def __post_init__(self):
    if self.low_db > self.high_db:
      raise ValueError(
        f'low_db {self.low_db} is above high_db {self.high_db}; swap them.'
      )

  def __call__(self, waveform: Samples, *, draw: float) -> Samples:
    gain_db = self.low_db + draw * (self.high_db - self.low_db)
    gain = 10 ** (gain_db / 20)
    peak = float(np.max(np.abs(waveform), initial=0))
    if gain > 1 and gain * peak > 1:
      gain = max(1.0, 1 / peak)
    return waveform * np.float32(gain)
