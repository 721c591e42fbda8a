# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import clips, degradations
from tests.evaluation import toy_codec, toy_ear

RATE_HZ = 24_000


def _degraded(degradation, waveform: np.ndarray, *, seed=0) -> np.ndarray:
  clip = clips.Clip(name='a', waveform=waveform, sample_rate_hz=RATE_HZ)
  (found,) = degradations.apply(degradation, [clip], seed=seed)
  assert found.name == 'a' and found.waveform.shape == waveform.shape
  assert found.waveform.dtype == np.float32
  return found.waveform


def _power(waveform: np.ndarray) -> float:
  return float(np.mean(waveform.astype(np.float64) ** 2))


@pytest.mark.parametrize('ratio_db', [10.0, 30.0])
def test_noise_is_as_far_below_the_clip_as_is_said(ratio_db: float):
  tone = toy_ear.tone(440, rate_hz=RATE_HZ)
  noisy = _degraded(degradations.noise(ratio_db), tone)
  found = 10 * np.log10(_power(tone) / _power(noisy - tone))
  assert found == pytest.approx(ratio_db, abs=0.1)
  again = _degraded(degradations.noise(ratio_db), tone)
  np.testing.assert_array_equal(again, noisy)
  other = _degraded(degradations.noise(ratio_db), tone, seed=1)
  assert np.any(other != noisy)


def test_the_low_pass_keeps_what_is_below_in_step_and_little_above():
  cut = degradations.low_pass(2_000.0)
  low, high = (toy_ear.tone(hertz, rate_hz=RATE_HZ) for hertz in (500, 5_000))
  kept = _degraded(cut, low)
  middle = slice(1_000, -1_000)
  np.testing.assert_allclose(kept[middle], low[middle], atol=1e-3)
  gone = _degraded(cut, high)[middle]
  assert _power(gone) < 1e-5 * _power(high)


def test_gain_and_noise_alone_have_the_level_that_is_said():
  tone = toy_ear.tone(440, rate_hz=RATE_HZ)
  np.testing.assert_array_equal(_degraded(degradations.gain(0.0), tone), tone)
  softer = _degraded(degradations.gain(-60.0), tone)
  assert _power(softer) == pytest.approx(1e-6 * _power(tone))
  alone = _degraded(degradations.noise_alone, tone)
  assert _power(alone) == pytest.approx(_power(tone), rel=0.05)
  assert abs(np.corrcoef(alone, tone)[0, 1]) < 0.05


def test_a_codec_hears_other_rates_at_its_own():
  tone = toy_ear.tone(440, rate_hz=44_100, seconds=0.7)[:-3]
  clip = clips.Clip(name='a', waveform=tone, sample_rate_hz=44_100)
  through = degradations.through(toy_codec.ToyCodec())
  (found,) = degradations.apply(through, [clip])
  assert found.waveform.shape == tone.shape
  middle = slice(1_000, -1_000)
  error = np.abs(found.waveform - tone)[middle].max()
  assert 0 < error < 2 * 0.2 / 5**2  # Of steps, which soxr overshoots.


def test_a_codec_is_applied_to_the_whole_clip():
  tone = toy_ear.tone(440, rate_hz=RATE_HZ)
  copy = _degraded(degradations.through(toy_codec.ToyCodec()), tone)
  error = np.abs(copy - tone).max()
  assert 0 < error <= 0.2 / 5**2 + 1e-6
