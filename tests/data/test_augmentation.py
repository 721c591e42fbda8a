# SPDX-License-Identifier: Apache-2.0
"""Random gain: its range, and full scale."""

import numpy as np
import pytest

from musiclm_jax.data import augmentation


def test_the_gain_runs_from_low_to_high_in_decibels():
  gain = augmentation.RandomGain(low_db=-20.0, high_db=6.0)
  waveform = np.array([0.1, -0.2], np.float32)
  for draw, factor in [(0.0, 0.1), (10 / 13, 1.0), (1.0, 10 ** (6 / 20))]:
    changed = gain(waveform, draw=draw)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, factor * waveform, rtol=1e-6)


def test_a_crop_is_never_driven_above_full_scale():
  gain = augmentation.RandomGain(low_db=0.0, high_db=12.0)
  changed = gain(np.array([0.5, -0.8], np.float32), draw=1.0)
  np.testing.assert_allclose(changed, [0.625, -1.0], rtol=1e-6)


def test_bounds_the_wrong_way_round_are_an_error():
  with pytest.raises(ValueError, match='swap them'):
    augmentation.RandomGain(low_db=1.0, high_db=0.0)
