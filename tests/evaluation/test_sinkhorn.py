# SPDX-License-Identifier: Apache-2.0
"""Transport costs beside a linear program and beside float64."""

import numpy as np
import pytest
from scipy import optimize, special

from musiclm_jax.evaluation import sinkhorn

NUM_CODES, DIM, LENGTH, PAIRS = 19, 3, 23, 5


@pytest.fixture(scope='module')
def ground():
  centroids = np.random.default_rng(0).normal(size=(NUM_CODES, DIM))
  return sinkhorn.ground_distances(centroids)


@pytest.fixture(scope='module')
def tokens():
  # Few codes for many tokens: bins of several and empty bins.
  return np.random.default_rng(1).integers(0, 11, size=(2, PAIRS, LENGTH))


def histograms(row):
  """The bins that are not empty, and their shares."""
  bins, counts = np.unique(row, return_counts=True)
  return bins, counts / counts.sum()


def exact_cost(first, second, *, ground):
  """Optimal transport between histograms as the linear program it is."""
  (bins, mass), (other_bins, other_mass) = map(histograms, (first, second))
  n, m = len(bins), len(other_bins)
  rows = np.kron(np.eye(n), np.ones(m))
  columns = np.kron(np.ones(n), np.eye(m))
  found = optimize.linprog(
    ground[np.ix_(bins, other_bins)].ravel(),
    A_eq=np.concatenate([rows, columns]),
    b_eq=np.concatenate([mass, other_mass]),
  )
  assert found.success
  return found.fun


def reference_cost(first, second, *, ground, regularization):
  """Sinkhorn in float64 on the histograms themselves, long enough."""
  (bins, mass), (other_bins, other_mass) = map(histograms, (first, second))
  cost = ground[np.ix_(bins, other_bins)].astype(np.float64)
  scaled = cost / regularization
  g = np.zeros(len(other_bins))
  for _ in range(500):
    f = -special.logsumexp(g[None] - scaled, b=other_mass[None], axis=1)
    g = -special.logsumexp(f[:, None] - scaled, b=mass[:, None], axis=0)
  plan = np.exp(f[:, None] + g[None] - scaled) * np.outer(mass, other_mass)
  return np.sum(plan * cost)


def costs(tokens, ground, **options):
  options = {'regularization': 0.05, 'tolerance': 1e-5} | options
  return sinkhorn.transport_costs(*tokens, ground=ground, **options)


def test_distances_are_euclidean_and_none_to_oneself(ground):
  centroids = np.random.default_rng(0).normal(size=(NUM_CODES, DIM))
  wanted = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)
  np.testing.assert_allclose(ground, wanted, rtol=1e-5, atol=1e-6)
  assert not np.diag(ground).any()


def test_cost_is_that_of_the_float64_reference_on_histograms(tokens, ground):
  wanted = [
    reference_cost(*pair, ground=ground, regularization=0.2)
    for pair in zip(*tokens)
  ]
  found = costs(tokens, ground, regularization=0.2)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_cost_is_that_of_the_linear_program_where_regularization_is_small(
  tokens, ground
):
  wanted = np.array([exact_cost(*pair, ground=ground) for pair in zip(*tokens)])
  above = costs(tokens, ground) - wanted
  assert np.all(above > -1e-4) and np.all(above < 0.05 * np.log(LENGTH))
  less = costs(tokens, ground, regularization=0.01) - wanted
  np.testing.assert_allclose(less, 0, atol=3e-3)
  assert above.mean() > less.mean()


def test_order_of_tokens_does_not_matter_and_oneself_costs_nothing(
  tokens, ground
):
  first, second = tokens
  shuffled = np.random.default_rng(2).permuted(first, axis=1)
  np.testing.assert_allclose(
    costs((shuffled, second), ground), costs(tokens, ground), rtol=1e-4
  )
  np.testing.assert_allclose(costs((first, shuffled), ground), 0, atol=1e-3)
  assert costs(tokens, ground).min() > 0.1


def test_a_pair_does_not_depend_on_its_mates_or_their_number(tokens, ground):
  many = np.concatenate([np.tile(tokens, (1, 13, 1)), tokens[:, :3]], axis=1)
  found = costs(many, ground)
  assert found.shape == (PAIRS * 13 + 3,)
  np.testing.assert_allclose(
    found, np.resize(costs(tokens, ground), found.shape), rtol=1e-4
  )
  nothing = np.zeros((0, LENGTH), int)
  assert costs((nothing, nothing), ground).shape == (0,)
