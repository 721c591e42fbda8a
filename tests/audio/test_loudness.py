# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import scipy.signal

from musiclm_jax.audio import loudness


def tone(hz, *, seconds, amplitude=1.0, rate_hz=48_000):
  times = np.arange(int(seconds * rate_hz)) / rate_hz
  return amplitude * np.sin(2 * np.pi * hz * times)


def bs1770_reference(waveform):
  """ITU-R BS.1770-4 at 48 kHz, its own coefficients (tables 1 and 2)."""
  shelf = (
    [1.53512485958697, -2.69169618940638, 1.19839281085285],
    [1.0, -1.69065929318241, 0.73248077421585],
  )
  highpass = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])
  for top, bottom in (shelf, highpass):
    waveform = scipy.signal.lfilter(top, bottom, waveform)
  block, hop = 19_200, 4_800
  powers = np.array(
    [
      np.mean(waveform[start : start + block] ** 2)
      for start in range(0, len(waveform) - block + 1, hop)
    ]
  )
  lufs = -0.691 + 10 * np.log10(powers)
  kept = powers[lufs > -70]
  gate = -0.691 + 10 * np.log10(np.mean(kept)) - 10
  kept = powers[(lufs > -70) & (lufs > gate)]
  return -0.691 + 10 * np.log10(np.mean(kept))


def test_full_scale_tone_of_997_hz_is_the_figure_of_the_standard():
  lufs = loudness.integrated_lufs(tone(997, seconds=3), sample_rate_hz=48_000)
  assert lufs == pytest.approx(-3.01, abs=0.1)  # as EBU Tech 3341 allows


def test_loudness_equals_the_standard_in_float64():
  random = np.random.default_rng(0)
  quiet = 0.003 * random.standard_normal(2 * 48_000)  # below the relative gate
  loud = tone(220, seconds=3, amplitude=0.3)
  waveform = np.concatenate([quiet, loud, np.full(48_000, 1e-9)])
  lufs = loudness.integrated_lufs(
    waveform.astype(np.float32), sample_rate_hz=48_000
  )
  assert lufs == pytest.approx(bs1770_reference(waveform), abs=0.1)


def test_loudness_hardly_depends_on_the_rate():
  values = [
    loudness.integrated_lufs(
      tone(997, seconds=3, rate_hz=rate_hz), sample_rate_hz=rate_hz
    )
    for rate_hz in (16_000, 24_000, 48_000)
  ]
  assert max(values) - min(values) < 0.1


def test_silence_has_no_loudness():
  lufs = loudness.integrated_lufs(np.zeros(48_000), sample_rate_hz=48_000)
  assert lufs == -math.inf


def test_waveform_shorter_than_a_block_is_an_error():
  with pytest.raises(ValueError, match='9599 samples at 24000 Hz'):
    loudness.integrated_lufs(np.zeros(9599), sample_rate_hz=24_000)


def test_levels_are_as_by_hand():
  square = np.array([0.5, -0.5, 0.5, -0.5], np.float32)
  assert loudness.rms_db(square) == pytest.approx(20 * math.log10(0.5))
  assert loudness.peak_db(square) == pytest.approx(20 * math.log10(0.5))
  sine = tone(100, seconds=1)
  assert loudness.rms_db(sine) == pytest.approx(-3.0103, abs=1e-4)
  assert loudness.peak_db(sine) == pytest.approx(0, abs=1e-4)
  for empty in (np.zeros(0), np.zeros(5)):
    assert loudness.rms_db(empty) == -math.inf
    assert loudness.peak_db(empty) == -math.inf


def test_one_note_in_a_pause_is_not_silence_and_noise_below_the_floor_is():
  waveform = np.zeros(1000)
  assert loudness.is_silent(waveform)
  waveform[730:760] = 0.1
  assert not loudness.is_silent(waveform)
  assert loudness.rms_db(waveform) > -60
  hiss = 0.0009 * np.ones(1000)
  assert loudness.is_silent(hiss)
  assert not loudness.is_silent(hiss, threshold_db=-61.0)


def test_click_is_silence():
  waveform = np.zeros(24_000)
  waveform[11] = 0.04
  assert loudness.is_silent(waveform)
