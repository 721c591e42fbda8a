# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.metrics import Histogram


def test_a_histogram_counts_what_is_valid():
  codes = jnp.array([[0, 2, 2], [4, 1, 2]])
  mask = jnp.array([[True, True, True], [False, True, False]])
  found = Histogram.of(codes, mask, num_values=5)
  np.testing.assert_array_equal(found.counts, [1, 1, 2, 0, 0])
  assert found.counts.dtype == jnp.float32


def test_its_figures_are_by_hand():
  figures = Histogram(jnp.array([2.0, 1.0, 1.0, 0.0])).figures()
  assert figures['entropy'] == pytest.approx(1.5 * np.log(2), rel=1e-6)
  assert figures['perplexity'] == pytest.approx(2**1.5, rel=1e-6)
  assert figures['largest_share'] == 0.5


def test_the_entropy_of_a_sum_is_not_the_mean_of_entropies():
  one, two = Histogram(jnp.array([4.0, 0.0])), Histogram(jnp.array([0.0, 4.0]))
  assert one.perplexity == two.perplexity == 1
  assert (one + two).perplexity == pytest.approx(2)


def test_an_empty_histogram_has_no_entropy_and_is_a_pytree():
  empty = Histogram(jnp.zeros(3))
  assert empty.entropy == 0 and empty.largest_share == 0
  doubled = jax.tree.map(lambda counts: counts + 1, empty)
  assert doubled.perplexity == pytest.approx(3)
