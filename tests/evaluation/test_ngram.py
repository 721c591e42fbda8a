# SPDX-License-Identifier: Apache-2.0
"""Baselines by hand, as distributions, and against what made the codes."""

import numpy as np
import pytest

from musiclm_jax.evaluation import ngram

SIZE = 7


def draws(*shape, seed=0):
  return np.random.default_rng(seed).integers(SIZE, size=shape)


def fit(clips):
  return ngram.Baselines.fit(clips, codebook_size=SIZE)


def test_a_unigram_adds_one_to_each_count():
  model = ngram.Unigram.fit(np.array([0, 0, 0, 2]), codebook_size=3)
  np.testing.assert_allclose(2.0**model.log2_probability, [4 / 7, 1 / 7, 2 / 7])


def test_a_bigram_by_hand():
  # After 0: 1 twice and 2 once. n1 = 2 pairs seen once, n2 = 1 seen twice.
  unigram = ngram.Unigram.fit(np.array([0, 1, 1, 2]), codebook_size=4)
  model = ngram.Bigram.fit(
    np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0]), unigram=unigram
  )
  discount = 2 / (2 + 2 * 1)
  p_of = np.array([2, 3, 2, 1]) / 8
  wanted = [
    (2 - discount) / 3 + discount * 2 / 3 * p_of[1],
    discount * 2 / 3 * p_of[3],
    (1 - discount) / 1 + discount * 1 / 1 * p_of[0],
    p_of[2],  # Nothing was ever seen after 3.
  ]
  found = model.bits(np.array([0, 0, 1, 3]), np.array([1, 3, 0, 2]))
  np.testing.assert_allclose(2.0**-found, wanted)


@pytest.mark.parametrize('name', [ngram.IN_TIME, ngram.IN_DEPTH])
def test_what_follows_a_code_is_a_distribution(name):
  baselines = fit([draws(53, 3), draws(11, 3, seed=1)])
  for first in range(SIZE):
    if name == ngram.IN_TIME:
      windows = [np.array([[first] * 3, [code] * 3]) for code in range(SIZE)]
      bits = [baselines.bits(window)[name][1, 2] for window in windows]
    else:
      windows = [np.array([[0, first, code]]) for code in range(SIZE)]
      bits = [baselines.bits(window)[name][0, 2] for window in windows]
    np.testing.assert_allclose(sum(2.0 ** -np.array(bits)), 1)


def test_what_nothing_precedes_costs_its_unigram():
  bits = fit([draws(53, 3)]).bits(draws(5, 3, seed=2))
  np.testing.assert_array_equal(bits[ngram.IN_TIME][0], bits[ngram.UNIGRAM][0])
  np.testing.assert_array_equal(
    bits[ngram.IN_DEPTH][:, 0], bits[ngram.UNIGRAM][:, 0]
  )
  assert not np.allclose(bits[ngram.IN_TIME][1:], bits[ngram.UNIGRAM][1:])


def test_a_chain_costs_its_entropy_and_its_unigram_all():
  """Each code is the one before it plus 0 or 1: one bit a code."""
  steps = np.random.default_rng(0).integers(2, size=(2, 20_000))
  chain = (np.cumsum(steps, axis=1) % SIZE)[..., None]
  baselines = fit([chain[0]])
  bits = baselines.bits(chain[1])
  assert abs(bits[ngram.IN_TIME].mean() - 1) < 0.01
  assert abs(bits[ngram.UNIGRAM].mean() - np.log2(SIZE)) < 0.01


def test_clips_do_not_run_into_each_other():
  baselines = fit([np.full((3, 1), 1), np.full((3, 1), 2)])
  assert baselines.in_time[0].pairs.tolist() == [1 * SIZE + 1, 2 * SIZE + 2]
  with pytest.raises(ValueError, match='no clips to count'):
    fit([])


def test_a_single_level_has_no_depth():
  assert not fit([draws(5, 1)]).in_depth
