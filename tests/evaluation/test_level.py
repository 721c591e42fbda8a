# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import level

RATE_HZ = 8_009


def _sine(amplitude: float = 1.0, num_samples: int = RATE_HZ) -> np.ndarray:
  phase = 2 * np.pi * 440 * np.arange(num_samples) / RATE_HZ
  return amplitude * np.sin(phase)


def test_a_full_scale_sine_has_minus_3_db_and_a_tenth_of_it_20_less():
  for amplitude, wanted in ((1, -3.01), (0.1, -23.01)):
    found = level.measure(_sine(amplitude), sample_rate_hz=RATE_HZ)
    assert found.rms_db == pytest.approx(wanted, abs=0.01)
    assert found.silent_share == 0


def test_half_of_it_silent_is_a_share_of_one_half():
  waveform = np.concatenate([_sine(), 1e-4 * _sine()])
  found = level.measure(waveform, sample_rate_hz=RATE_HZ)
  assert found.silent_share == pytest.approx(0.5, abs=0.03)


def test_digital_silence_has_a_level_and_no_flatness():
  found = level.measure(np.zeros(5_003), sample_rate_hz=RATE_HZ)
  assert found.rms_db == -120 and found.silent_share == 1
  assert np.isnan(found.flatness)


def test_samples_at_full_scale_are_counted():
  waveform = np.zeros(1_000)
  waveform[:3], waveform[3] = (1, -1, 0.9995), 0.99
  found = level.measure(waveform, sample_rate_hz=RATE_HZ)
  assert found.clipped_share == 3 / 1_000


def test_noise_is_flat_and_a_tone_is_not():
  noise = 0.1 * np.random.default_rng(0).standard_normal(50_021)
  # The geometric mean of an exponential variable of mean 1: exp(-gamma).
  wanted = np.exp(-np.euler_gamma)
  found = level.measure(noise, sample_rate_hz=RATE_HZ).flatness
  assert found == pytest.approx(wanted, abs=0.02)
  assert level.measure(_sine(), sample_rate_hz=RATE_HZ).flatness < 1e-3


def test_a_clip_may_be_one_sample_but_not_none():
  assert level.measure(np.ones(1), sample_rate_hz=RATE_HZ).rms_db == 0
  with pytest.raises(ValueError, match='without samples'):
    level.measure(np.zeros(0), sample_rate_hz=RATE_HZ)
