# SPDX-License-Identifier: Apache-2.0
"""How far a mean over clips can be trusted: the percentile bootstrap.

Clips are drawn anew with replacement and the mean is taken each time; the
middle 95 % of these means is the interval. The clip is the unit: frames of one
clip are far from independent. An Introduction to the Bootstrap (Efron and
Tibshirani, 1993), section 13.3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A mean and its interval.

  Attributes:
    mean: Over the clips.
    low: Lower end of the interval.
    high: Upper end.
    num_clips: How many clips it is over.
  """

  mean: float
  low: float
  high: float
  num_clips: int


def estimate_mean(
  values: Sequence[float] | Float[np.ndarray, ' clips'],
  *,
  confidence: float = 0.95,
  num_resamples: int = 2_000,
  seed: int = 0,
) -> Estimate:
  """The mean of one figure a clip, with its bootstrap interval.

  Args:
    values: One figure a clip; for a comparison on the same clips, the
      differences.
    confidence: Share of the resampled means inside the interval.
    num_resamples: How often the clips are drawn anew.
    seed: Of these draws; the same one gives the same interval.
  """
  values = np.asarray(values, np.float64)
  if not values.size:
    raise ValueError('There are no clips to take a mean over; give at least 1.')
  draw = np.random.default_rng(seed)
  # One at a time: all of them at once would be resamples × clips numbers.
  means = [
    values[draw.integers(values.size, size=values.size)].mean()
    for _ in range(num_resamples)
  ]
  outside = (1 - confidence) / 2
  # No interpolation: between two infinities (silence has an SI-SDR of minus
  # infinity) it would give NaN.
  low, high = np.quantile(means, [outside, 1 - outside], method='nearest')
  return Estimate(
    mean=float(values.mean()),
    low=float(low),
    high=float(high),
    num_clips=values.size,
  )
