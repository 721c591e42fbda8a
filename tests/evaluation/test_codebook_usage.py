# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import codebook_usage


def test_two_codes_of_five_in_equal_parts_are_one_bit():
  found = codebook_usage.measure(np.array([7, 0, 7, 0, 0]))
  assert found.used_share == pytest.approx(2 / 5)
  assert found.entropy_bits == pytest.approx(1.0)
  assert found.perplexity == pytest.approx(2.0)


def test_shares_of_a_half_and_two_quarters_are_one_and_a_half_bits():
  found = codebook_usage.measure(np.array([2, 1, 1]))
  assert found.entropy_bits == pytest.approx(1.5)


def test_a_single_code_tells_nothing():
  found = codebook_usage.measure(np.array([0, 31]))
  assert (found.entropy_bits, found.perplexity) == (0.0, 1.0)
