# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from musiclm_jax.audio import resample as ours
from musiclm_jax.export.pytorch import resample

RATES = [(24_000, 16_000), (44_100, 16_000), (16_000, 24_000), (48_000, 16_000)]


def tone(hz, rate_hz, seconds=1):
  time = np.arange(int(seconds * rate_hz)) / rate_hz
  return np.sin(2 * np.pi * hz * time + 0.3).astype(np.float32)


def resampled(waveform, from_hz, to_hz):
  made = resample.resample(
    torch.from_numpy(waveform)[None], from_hz=from_hz, to_hz=to_hz
  )
  return made[0].numpy()


def inner(waveform):
  return waveform[len(waveform) // 5 : -len(waveform) // 5]


@pytest.mark.parametrize(('from_hz', 'to_hz'), RATES)
def test_what_is_well_below_nyquist_passes(from_hz, to_hz):
  for share in (0.05, 0.9):
    hz = round(share * min(from_hz, to_hz) / 2)
    made = inner(resampled(tone(hz, from_hz), from_hz, to_hz))
    # 0.01 dB are 0.12 %.
    np.testing.assert_allclose(made, inner(tone(hz, to_hz)), atol=1.2e-3)


@pytest.mark.parametrize(
  ('from_hz', 'to_hz'), [r for r in RATES if r[0] > r[1]]
)
def test_what_is_above_nyquist_is_rejected(from_hz, to_hz):
  made = inner(resampled(tone(to_hz / 2 + 10, from_hz), from_hz, to_hz))
  assert np.abs(made).max() < 1e-5  # 100 dB.


@pytest.mark.parametrize(('from_hz', 'to_hz'), RATES)
@pytest.mark.parametrize('num_samples', [1, 7, 1_001])
def test_there_are_as_many_samples_as_jax_has(from_hz, to_hz, num_samples):
  waveform = np.ones(num_samples, np.float32)
  rates = {'from_hz': from_hz, 'to_hz': to_hz}
  wanted = ours.num_resampled(num_samples, **rates)
  assert len(resampled(waveform, **rates)) == wanted


def test_music_below_nyquist_is_as_soxr_makes_it():
  waveform = sum(tone(hz, 44_100) for hz in (110, 587, 3_321, 6_007)) / 4
  wanted = ours.resample(waveform, from_hz=44_100, to_hz=16_000)
  made = resampled(waveform, 44_100, 16_000)
  np.testing.assert_allclose(inner(made), inner(wanted), atol=1e-4)


def test_a_rate_that_is_none_is_named():
  with pytest.raises(ValueError, match='from 0 Hz to 5 Hz'):
    resampled(np.ones(3, np.float32), 0, 5)
