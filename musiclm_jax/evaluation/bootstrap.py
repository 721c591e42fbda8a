# SPDX-License-Identifier: Apache-2.0
"""How far a figure over clips can be trusted: the percentile bootstrap.

Clips are drawn anew with replacement and the figure is taken each time; the
middle 95 % of these is the interval. The clip is the unit, for frames of one
clip are far from independent; where several rows come from one tune, the tune
is. An Introduction to the Bootstrap (Efron and Tibshirani, 1993), section 13.3.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int

Rows = Int[np.ndarray, ' rows']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A figure and its interval.

  Attributes:
    mean: Over the clips; the figure itself where it is no mean.
    low: Lower end of the interval.
    high: Upper end.
    num_clips: How many clips, or groups of rows, it is over.
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
  return estimate(
    lambda rows: float(values[rows].mean()),
    groups=range(values.size),
    confidence=confidence,
    num_resamples=num_resamples,
    seed=seed,
  )


def estimate(
  statistic: Callable[[Rows], float],
  *,
  groups: Sequence[Hashable],
  confidence: float = 0.95,
  num_resamples: int = 2_000,
  seed: int = 0,
  recentred: bool = False,
) -> Estimate:
  """Any figure of rows, with its bootstrap interval over groups of them.

  Args:
    statistic: The figure over the rows of these numbers, which may repeat.
    groups: The clip or the tune of each row; what is drawn anew.
    confidence: Share of the resampled figures inside the interval.
    num_resamples: How often the groups are drawn anew.
    seed: Of these draws; the same one gives the same interval.
    recentred: Moves the interval by as much as the mean of the resampled
      figures is off the figure. For one that grows where clips repeat, as a
      distance of covariances does, so that its interval would lie above it.
  """
  if not len(groups):
    raise ValueError('There are no clips to take a mean over; give at least 1.')
  drawn = _drawn(tuple(groups), num_resamples=num_resamples, seed=seed)
  figures = [statistic(rows) for rows in drawn]
  outside = (1 - confidence) / 2
  # No interpolation: between two infinities (silence has an SI-SDR of minus
  # infinity) it would give NaN.
  low, high = np.quantile(figures, [outside, 1 - outside], method='nearest')
  mean = float(statistic(np.arange(len(groups))))
  shift = mean - float(np.mean(figures)) if recentred else 0.0
  return Estimate(
    mean=mean,
    low=float(low) + shift,
    high=float(high) + shift,
    num_clips=len(set(groups)),
  )


# Many figures are taken of the same clips one after the other.
@functools.lru_cache(maxsize=2)
def _drawn(
  groups: tuple[Hashable, ...], *, num_resamples: int, seed: int
) -> tuple[Rows, ...]:
  """The rows of groups drawn with replacement, for each resample."""
  rows_of = collections.defaultdict(list)
  for row, group in enumerate(groups):
    rows_of[group].append(row)
  members = [np.array(rows) for rows in rows_of.values()]
  draw = np.random.default_rng(seed)
  return tuple(
    np.concatenate(
      [members[n] for n in draw.integers(len(members), size=len(members))]
    )
    for _ in range(num_resamples)
  )
