# SPDX-License-Identifier: Apache-2.0
"""Ranks and precisions by hand; chance against every order there is."""

import itertools

import numpy as np
import pytest

from musiclm_jax.evaluation import retrieval

RELEVANT = np.array(
  [
    [True, False, False, False, False],
    [True, True, False, False, True],
    [False, False, False, True, True],
  ]
)


def test_ranks_and_precisions_are_those_by_hand():
  scores = np.array(
    [
      [0.3, 0.9, 0.1, 0.2, 0.8],  # Its answer comes third.
      [0.9, 0.1, 0.8, 0.5, 0.7],  # First, third and fifth.
      [0.1, 0.2, 0.3, 0.0, 0.9],  # First and last.
    ]
  )
  found = retrieval.rank(scores, relevant=RELEVANT)
  np.testing.assert_array_equal(found.first_rank, [3, 1, 1])
  np.testing.assert_allclose(
    found.average_precision,
    [1 / 3, (1 + 2 / 3 + 3 / 5) / 3, (1 + 2 / 5) / 2],
  )
  np.testing.assert_array_equal(found.served(1), [0, 1, 1])
  np.testing.assert_array_equal(found.served(3), [1, 1, 1])


def test_chance_is_the_mean_over_all_orders():
  orders = list(itertools.permutations(range(5)))
  every = [
    retrieval.rank(
      np.tile(-np.array(order, np.float64), (3, 1)), relevant=RELEVANT
    )
    for order in orders
  ]
  for k in (1, 2, 4, 9):
    served = np.mean([ranking.served(k) for ranking in every], axis=0)
    np.testing.assert_allclose(retrieval.chance_served(RELEVANT, k), served)
  precision = np.mean([ranking.average_precision for ranking in every], axis=0)
  np.testing.assert_allclose(
    retrieval.chance_average_precision(RELEVANT), precision
  )
  ranks = np.concatenate([ranking.first_rank for ranking in every])
  assert retrieval.chance_median_rank(RELEVANT) == int(np.median(ranks))


def test_equal_scores_are_ordered_blindly_and_not_in_favour_of_anybody():
  # Clip n's answer stands at n, which a sort that keeps order would exploit.
  relevant = np.eye(211, dtype=bool)
  found = retrieval.rank(np.zeros((211, 211)), relevant=relevant)
  assert found.first_rank.mean() == 106  # Of a permutation.
  assert found.first_rank.tolist() != list(range(1, 212))


def test_equal_keys_make_right_answers():
  keys = [('flute', 'slow'), ('harp', 'slow'), ('flute', 'slow')]
  np.testing.assert_array_equal(
    retrieval.equal(keys),
    [[True, False, True], [False, True, False], [True, False, True]],
  )


def test_a_query_without_an_answer_is_an_error():
  with pytest.raises(ValueError, match='1 of 2 queries have no right answer'):
    retrieval.rank(
      np.zeros((2, 3)), relevant=np.array([[True, False, False], [False] * 3])
    )
