# SPDX-License-Identifier: Apache-2.0
"""A known delay is found, and taken out."""

import numpy as np
import pytest

from musiclm_jax.evaluation import alignment

WAVEFORM = np.random.default_rng(0).normal(size=1009).astype(np.float32)


@pytest.mark.parametrize('lag', [-7, -1, 0, 1, 13])
def test_a_known_lag_is_found_and_taken_out(lag):
  copy = 0.5 * np.roll(WAVEFORM, lag)
  assert alignment.best_lag(WAVEFORM, copy, max_lag=17) == lag
  one, other = alignment.overlap(WAVEFORM, copy, lag=lag)
  assert one.size == other.size == WAVEFORM.size - abs(lag)
  np.testing.assert_array_equal(0.5 * one, other)


def test_the_search_stays_within_its_bounds():
  copy = np.roll(WAVEFORM, 19)
  assert abs(alignment.best_lag(WAVEFORM, copy, max_lag=5)) <= 5


def test_waveforms_of_two_lengths_overlap_where_both_are():
  one, other = alignment.overlap(WAVEFORM, WAVEFORM[3:500], lag=-3)
  np.testing.assert_array_equal(one, other[: one.size])
  assert one.size == other.size == 494


@pytest.mark.parametrize('lag, seen', [(5, True), (24, True), (30, False)])
def test_an_aligned_metric_sees_no_delay_within_a_millisecond(lag, seen):
  copy = np.roll(WAVEFORM, lag)

  def squared_error(reference, estimate, *, sample_rate_hz):
    assert sample_rate_hz == 24_000
    return float(np.mean((reference - estimate) ** 2))

  metric = alignment.aligned(squared_error)
  error = metric(WAVEFORM, copy, sample_rate_hz=24_000)
  assert (error == 0) == seen
