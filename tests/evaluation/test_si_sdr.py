# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from musiclm_jax.evaluation.si_sdr import si_sdr

REFERENCE = np.array([1.0, -1.0, 1.0, -1.0])
ORTHOGONAL = np.array([1.0, 1.0, -1.0, -1.0])


@pytest.mark.parametrize(
  ('error', 'expected'), [(1.0, 0), (0.1, 20), (10, -20)]
)
def test_ratio_is_as_by_hand(error, expected):
  estimate = REFERENCE + error * ORTHOGONAL
  assert si_sdr(REFERENCE, estimate) == pytest.approx(expected, abs=1e-9)


def test_gain_sign_and_mean_of_either_do_not_count():
  random = np.random.default_rng(0)
  reference, noise = random.standard_normal((2, 997))
  estimate = reference + 0.3 * noise
  expected = si_sdr(reference, estimate)
  assert si_sdr(3 * reference + 5, -0.01 * estimate + 2) == pytest.approx(
    expected, abs=1e-9
  )
  # The noise has about 0.3² of the energy.
  assert expected == pytest.approx(-20 * math.log10(0.3), abs=0.5)


def test_float32_clips_are_summed_in_float64():
  random = np.random.default_rng(0)
  reference, noise = random.standard_normal((2, 300_000)).astype(np.float32)
  estimate = reference + np.float32(1e-3) * noise
  s, e = reference.astype(np.float64), estimate.astype(np.float64)
  s, e = s - s.mean(), e - e.mean()
  target = (e @ s) / (s @ s) * s
  expected = 10 * np.log10((target @ target) / ((e - target) @ (e - target)))
  assert si_sdr(reference, estimate) == pytest.approx(expected, abs=1e-9)


def test_limits_are_infinite():
  assert si_sdr(REFERENCE, REFERENCE) == math.inf
  assert si_sdr(REFERENCE, ORTHOGONAL) == -math.inf
  assert si_sdr(REFERENCE, np.zeros(4)) == -math.inf


def test_silent_reference_and_unequal_lengths_are_errors():
  with pytest.raises(ValueError, match='silent'):
    si_sdr(np.full(4, 0.5), REFERENCE)
  with pytest.raises(ValueError, match='4 samples and the estimate 3'):
    si_sdr(REFERENCE, REFERENCE[:3])
