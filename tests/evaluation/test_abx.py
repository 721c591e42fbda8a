# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import abx


def by_loops(frames):
  """The definition, cell by cell."""
  table = np.full(np.add(frames.shape, 1), np.inf)
  table[0, 0] = 0
  for i, row in enumerate(frames):
    for j, cost in enumerate(row):
      table[i + 1, j + 1] = min(
        table[i, j + 1] + cost, table[i + 1, j] + cost, table[i, j] + 2 * cost
      )
  return table[-1, -1] / sum(frames.shape)


@pytest.mark.parametrize('shape', [(1, 1), (1, 5), (7, 1), (13, 11), (5, 17)])
def test_the_distance_is_that_of_the_recursion(shape):
  frames = np.random.default_rng(0).random(shape)
  assert abx.aligned_distance(frames) == pytest.approx(by_loops(frames))


def test_a_difference_of_tempo_costs_nothing():
  tune = np.array([3, 1, 4, 1, 5])
  slow, fast = np.repeat(tune, 3), np.repeat(tune, 2)
  distance = abx.aligned_distance(abx.token_distance(slow, fast))
  assert distance == 0
  other = np.repeat(tune[::-1] + 1, 2)
  assert abx.aligned_distance(abx.token_distance(slow, other)) > 0.3


def test_one_frame_in_five_that_differs_is_a_distance_of_a_fifth():
  first, second = np.array([1, 2, 3, 4, 5]), np.array([1, 2, 9, 4, 5])
  frames = abx.token_distance(first, second)
  assert abx.aligned_distance(frames) == pytest.approx(1 / 5)


def test_cosines_do_not_see_the_level():
  frames = np.random.default_rng(0).standard_normal((7, 3))
  distances = abx.cosine_distance(frames, 5 * frames)
  np.testing.assert_allclose(np.diagonal(distances), np.zeros(7), atol=1e-12)
  np.testing.assert_allclose(abx.cosine_distance(frames, -frames)[0, 0], 2)


def test_a_tune_is_recognised_where_its_tokens_are_kept():
  generator = np.random.default_rng(0)
  tunes = [generator.integers(9, size=31) for _ in range(5)]
  slower = [np.repeat(tune, 2) for tune in tunes]
  score, distances = abx.scores(
    tunes, slower, frame_distance=abx.token_distance
  )
  np.testing.assert_array_equal(score, np.ones(5))
  np.testing.assert_array_equal(np.diagonal(distances), np.zeros(5))


def test_what_says_nothing_of_the_tune_scores_a_half():
  generator = np.random.default_rng(0)
  first, second = (
    [generator.integers(9, size=23) for _ in range(23)] for _ in range(2)
  )
  score, _ = abx.scores(first, second, frame_distance=abx.token_distance)
  assert abs(score.mean() - 0.5) < 0.15
  silent = [np.zeros(7, int)] * 3
  score, _ = abx.scores(silent, silent, frame_distance=abx.token_distance)
  np.testing.assert_array_equal(score, np.full(3, 0.5))


def test_what_cannot_be_compared_is_named():
  with pytest.raises(ValueError, match='1 and 1 renderings'):
    abx.scores([np.ones(3)], [np.ones(3)], frame_distance=abx.token_distance)
  with pytest.raises(ValueError, match='0 and 3 frames'):
    abx.aligned_distance(np.ones((0, 3)))
