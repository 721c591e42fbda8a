# SPDX-License-Identifier: Apache-2.0
"""Is X more like A than like B, where A and X are the same tune?

Schatz et al., "Evaluating speech features with the minimal-pair ABX task"
(2013): the distance of two sequences is the mean distance of their frames along
the best alignment, which takes out a difference of tempo. Frames are compared by
cosine, or for tokens by whether they are the same.

Shapes: a sequence is [frames, dim], or [frames] of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

# Of two sequences: of each frame of one to each of the other.
FrameDistance = Callable[
  [np.ndarray, np.ndarray], Float[np.ndarray, 'first second']
]


def cosine_distance(
  first: Float[np.ndarray, 'first dim'], second: Float[np.ndarray, 'second dim']
) -> Float[np.ndarray, 'first second']:
  """1 - cosine: 0 alike, 1 at right angles, 2 opposite."""
  return 1 - _unit(first) @ _unit(second).T


def token_distance(
  first: Int[np.ndarray, ' first'], second: Int[np.ndarray, ' second']
) -> Float[np.ndarray, 'first second']:
  """0 for the same token, 1 for another one."""
  return (first[:, None] != second[None]).astype(np.float64)


def aligned_distance(frames: Float[np.ndarray, 'first second']) -> float:
  """The mean of frame distances along the best alignment.

  Steps in one sequence, in the other, or in both; a step in both counts twice
  (Sakoe and Chiba, 1978, the symmetric form), so that every alignment has the
  same weight in all and the mean needs no path.
  """
  num_first, num_second = frames.shape
  if not frames.size:
    raise ValueError(
      f'Sequences of {num_first} and {num_second} frames have no alignment.'
    )
  # Row i, shifted by i: what a cell follows lies in the two columns before it,
  # so that a column of the shifted table is made at once.
  costs = np.full((num_first, num_first + num_second - 1), np.inf)
  for row in range(num_first):
    costs[row, row : row + num_second] = frames[row]
  before = np.full(num_first, np.inf)  # One column back.
  earlier = np.full(num_first, np.inf)  # Two columns back.
  for column in range(costs.shape[1]):
    cost = costs[:, column]
    from_above = np.concatenate([[np.inf], before[:-1]])
    from_both = np.concatenate([[0 if column == 0 else np.inf], earlier[:-1]])
    best = np.minimum(
      np.minimum(before, from_above) + cost, from_both + 2 * cost
    )
    earlier, before = before, np.where(np.isfinite(cost), best, np.inf)
  return float(before[-1]) / (num_first + num_second)


def scores(
  first: Sequence[np.ndarray],
  second: Sequence[np.ndarray],
  *,
  frame_distance: FrameDistance,
) -> tuple[Float[np.ndarray, ' tunes'], Float[np.ndarray, 'tunes tunes']]:
  """How often each tune is recognised among the others.

  Args:
    first: Each tune as one instrument plays it: A, and B for other tunes.
    second: Each tune as another instrument plays it: X.
    frame_distance: Of two frames.

  Returns:
    For each X, the share of the other tunes that are further from it than its
    own tune is (half for one as far); and all distances, [X, A or B].
  """
  if len(first) != len(second) or len(first) < 2:
    raise ValueError(
      f'{len(first)} and {len(second)} renderings cannot be compared; both are'
      ' of the same tunes, two at least.'
    )
  distances = np.array(
    [[aligned_distance(frame_distance(x, a)) for a in first] for x in second]
  )
  own = np.diagonal(distances)[:, None]
  wins = (own < distances) + 0.5 * (own == distances)
  others = ~np.eye(len(first), dtype=bool)
  return (wins * others).sum(1) / others.sum(1), distances


def _unit(vectors: Float[np.ndarray, 'rows dim']) -> np.ndarray:
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)
