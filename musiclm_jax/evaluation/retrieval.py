# SPDX-License-Identifier: Apache-2.0
"""How well one side of a joint space finds what belongs to it on the other.

A query may have several right answers: clips whose captions say the same. It is
served at k if one of them is among the first k. What drawing an order blindly
would give, right answers counted alike, is exact and in closed form: every
figure stands beside it.

Shapes: scores and relevant [queries, items]; figures [queries].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Relevant = Bool[np.ndarray, 'queries items']
PerQuery = Float[np.ndarray, ' queries']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
  """Where each query's right answers came.

  Attributes:
    first_rank: Of the best placed one, from 1.
    average_precision: Mean over the right answers of the share of right ones
      among the items down to each.
  """

  first_rank: Int[np.ndarray, ' queries']
  average_precision: PerQuery

  def served(self, k: int) -> PerQuery:
    """1 for each query that has a right answer among the first k."""
    return (self.first_rank <= k).astype(np.float64)


def rank(
  scores: Float[np.ndarray, 'queries items'],
  *,
  relevant: Relevant,
  seed: int = 0,
) -> Ranking:
  """Orders the items of every query by score, best first.

  Args:
    scores: Higher is nearer.
    relevant: Which items are right answers; each query needs one.
    seed: Of the order of equal scores, which codes have plenty of.
  """
  _require_answers(relevant)
  shuffled = np.random.default_rng(seed).permutation(scores.shape[1])
  order = np.argsort(-scores[:, shuffled], axis=1, kind='stable')
  hits = np.take_along_axis(relevant[:, shuffled], order, axis=1)
  places = np.arange(1, scores.shape[1] + 1)[None]
  precision = np.cumsum(hits, axis=1) / places
  return Ranking(
    first_rank=np.argmax(hits, axis=1) + 1,
    average_precision=(precision * hits).sum(axis=1) / hits.sum(axis=1),
  )


def equal(keys: Sequence[Hashable]) -> Relevant:
  """Which items are right answers where equal keys mean equal captions."""
  numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
  column = np.array([numbers[key] for key in keys])
  return column[:, None] == column[None]


def chance_served(relevant: Relevant, k: int) -> PerQuery:
  """P(a right answer among the first k) of a blind order."""
  num_items = relevant.shape[1]
  k = min(k, num_items)

  def missed(num_right: int) -> float:
    return math.comb(num_items - num_right, k) / math.comb(num_items, k)

  return _of_number_right(relevant, lambda num_right: 1 - missed(num_right))


def chance_average_precision(relevant: Relevant) -> PerQuery:
  """The expected average precision of a blind order."""
  num_items = relevant.shape[1]
  places = np.arange(1, num_items + 1)

  def expected(num_right: int) -> float:
    # An item at place k is right with probability m / n, and then so is each
    # of those before it with (m - 1) / (n - 1).
    before = (places - 1) * (num_right - 1) / max(1, num_items - 1)
    return float(np.mean((1 + before) / places))

  return _of_number_right(relevant, expected)


def chance_median_rank(relevant: Relevant) -> int:
  """The rank by which half of the queries are served in a blind order."""
  low, high = 1, relevant.shape[1]
  while low < high:
    middle = (low + high) // 2
    if chance_served(relevant, middle).mean() >= 0.5:
      high = middle
    else:
      low = middle + 1
  return low


def _of_number_right(
  relevant: Relevant, figure: Callable[[int], float]
) -> PerQuery:
  """`figure` of each query's number of right answers."""
  _require_answers(relevant)
  numbers, which = np.unique(relevant.sum(axis=1), return_inverse=True)
  return np.array([figure(int(number)) for number in numbers])[which]


def _require_answers(relevant: Relevant) -> None:
  if not relevant.any(axis=1).all():
    raise ValueError(
      f'{int((~relevant.any(axis=1)).sum())} of {len(relevant)} queries have no'
      ' right answer among the items; leave them out.'
    )
