# SPDX-License-Identifier: Apache-2.0
"""The interval covers the truth as often as it says."""

import numpy as np
import pytest

from musiclm_jax.evaluation.bootstrap import estimate, estimate_mean


def test_interval_of_many_normal_values_is_that_of_the_textbook():
  values = np.random.default_rng(0).normal(3.0, 2.0, size=1009)
  got = estimate_mean(values)
  standard_error = values.std(ddof=1) / np.sqrt(values.size)
  assert got.mean == values.mean()
  np.testing.assert_allclose(
    [got.low, got.high],
    values.mean() + 1.96 * standard_error * np.array([-1, 1]),
    atol=0.1 * standard_error,
  )
  assert got.num_clips == 1009


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
  draw = np.random.default_rng(0)
  covered = 0
  for _ in range(200):
    got = estimate_mean(draw.exponential(size=53), num_resamples=300)
    covered += got.low <= 1.0 <= got.high
  # Binomial: 95 % of 200, less the known shortfall for skewed values.
  assert 175 <= covered <= 198


def test_equal_values_have_no_spread():
  got = estimate_mean([2.5, 2.5, 2.5])
  assert (got.low, got.mean, got.high) == (2.5, 2.5, 2.5)


def test_the_same_seed_gives_the_same_interval():
  values = np.random.default_rng(0).normal(size=31)
  assert estimate_mean(values) == estimate_mean(values)
  assert estimate_mean(values) != estimate_mean(values, seed=1)


def test_no_clips_are_an_error():
  with pytest.raises(ValueError, match='no clips'):
    estimate_mean([])


def test_rows_of_one_tune_count_as_one():
  # Each tune's rows are alike, so five rows of it tell no more than one.
  values = np.random.default_rng(0).normal(size=41)
  apart = estimate_mean(values)
  alike = np.repeat(values, 5)
  grouped = estimate(
    lambda rows: alike[rows].mean(), groups=np.repeat(range(41), 5).tolist()
  )
  assert grouped.num_clips == 41
  np.testing.assert_allclose(
    [grouped.low, grouped.mean, grouped.high],
    [apart.low, apart.mean, apart.high],
  )
  blind = estimate_mean(alike)
  assert blind.high - blind.low < 0.6 * (grouped.high - grouped.low)


def test_a_figure_that_is_no_mean_is_taken_of_the_drawn_rows():
  values = np.random.default_rng(0).normal(3.0, 1.0, size=101)
  got = estimate(lambda rows: float(np.median(values[rows])), groups=range(101))
  assert got.mean == np.median(values)
  assert got.low < 3.0 < got.high


def test_a_figure_that_grows_where_clips_repeat_lies_in_its_interval():
  values = np.random.default_rng(5).standard_normal(53)

  def repeats(rows: np.ndarray) -> float:
    """Of a resample 0.37 more than of all rows once."""
    return float(1 - len(set(rows.tolist())) / rows.size + values[rows].mean())

  plain = estimate(repeats, groups=range(53))
  moved = estimate(repeats, groups=range(53), recentred=True)
  assert plain.mean == moved.mean < plain.low
  assert moved.low < moved.mean < moved.high
  assert moved.high - moved.low == pytest.approx(plain.high - plain.low)
