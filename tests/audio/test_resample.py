# SPDX-License-Identifier: Apache-2.0
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal

from musiclm_jax.audio import resample

RATES = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000]


def tone(hz, *, rate_hz, num_samples):
  return np.sin(2 * np.pi * hz * np.arange(num_samples) / rate_hz)


def decibels(ratio):
  return 20 * np.log10(ratio)


@pytest.mark.parametrize(
  ('from_hz', 'to_hz'), [(44_100, 24_000), (48_000, 16_000), (16_000, 24_000)]
)
def test_tones_in_the_band_come_out_as_the_formula_has_them(from_hz, to_hz):
  band = 0.45 * min(from_hz, to_hz)  # 0.9 of the lower Nyquist frequency
  for hz in (0.01 * band, 0.37 * band, band):
    result = resample.resample(
      tone(hz, rate_hz=from_hz, num_samples=from_hz),
      from_hz=from_hz,
      to_hz=to_hz,
    )
    expected = tone(hz, rate_hz=to_hz, num_samples=to_hz)
    inner = slice(1000, -1000)
    error = np.max(np.abs(result - expected)[inner])
    assert decibels(error) < -58  # 0.01 dB


@pytest.mark.parametrize('hz', [12_600, 15_000, 21_000])
def test_tones_above_the_new_band_are_rejected_by_100_db(hz):
  result = resample.resample(
    tone(hz, rate_hz=48_000, num_samples=48_000), from_hz=48_000, to_hz=24_000
  )
  assert decibels(np.max(np.abs(result[1000:-1000]))) < -100


def test_result_equals_a_long_polyphase_filter_in_float64():
  random = np.random.default_rng(0)
  # Noise without its top tenth, where filters may differ.
  taps = scipy.signal.firwin(501, 0.4 * 24_000, fs=44_100)
  waveform = np.convolve(random.standard_normal(44_100), taps, mode='same')
  taps = scipy.signal.firwin(
    58_801, 11_500, fs=80 * 44_100, window=('kaiser', 14.0)
  )
  expected = scipy.signal.resample_poly(waveform, 80, 147, window=taps)
  result = resample.resample(
    waveform.astype(np.float32), from_hz=44_100, to_hz=24_000
  )
  inner = slice(1000, -1000)
  error = np.std((result - expected)[inner]) / np.std(expected[inner])
  assert decibels(error) < -90


@hypothesis.given(
  st.integers(1, 5000), st.sampled_from(RATES), st.sampled_from(RATES)
)
def test_number_of_samples_is_as_told(num_samples, from_hz, to_hz):
  rates = {'from_hz': from_hz, 'to_hz': to_hz}
  result = resample.resample(np.zeros(num_samples, np.float32), **rates)
  assert result.dtype == np.float32
  assert len(result) == resample.num_resampled(num_samples, **rates)


def test_halves_are_rounded_up():
  assert resample.num_resampled(5, from_hz=2, to_hz=1) == 3
  assert resample.num_resampled(44_100, from_hz=44_100, to_hz=24_000) == 24_000


def test_same_rate_changes_nothing():
  waveform = np.arange(7, dtype=np.float32)
  result = resample.resample(waveform, from_hz=31, to_hz=31)
  np.testing.assert_array_equal(result, waveform)


def test_rate_of_zero_is_an_error():
  with pytest.raises(ValueError, match='from 24000 Hz to 0 Hz'):
    resample.resample(np.zeros(3, np.float32), from_hz=24_000, to_hz=0)
