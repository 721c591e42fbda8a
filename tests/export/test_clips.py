# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.export import clips


def test_a_short_clip_is_repeated_and_a_long_one_cut():
  found = clips.Clips(
    waveforms=(np.arange(3.0), np.arange(11.0)), rates_hz=(5, 5), about=''
  )
  batch = found.batch(sample_rate_hz=5, num_samples=7)
  # But for the faint noise.
  np.testing.assert_allclose(batch[0], [0, 1, 2, 0, 1, 2, 0], atol=0.01)
  np.testing.assert_allclose(batch[1], np.arange(7), atol=0.01)


def test_no_silence_is_left_in_which_rounding_alone_would_be_compared():
  silence = clips.Clips(waveforms=(np.zeros(9),), rates_hz=(5,), about='')
  batch = silence.batch(sample_rate_hz=5, num_samples=1_001)
  assert 0.9e-3 < batch.std() < 1.1e-3
  again = silence.batch(sample_rate_hz=5, num_samples=1_001)
  np.testing.assert_array_equal(batch, again)


def test_clips_of_two_rates_are_brought_to_one():
  tone = [
    np.sin(2 * np.pi * 7 * np.arange(4 * rate) / rate) for rate in (800, 1200)
  ]
  found = clips.Clips(waveforms=tuple(tone), rates_hz=(800, 1200), about='')
  batch = found.batch(sample_rate_hz=400, num_samples=1_200)
  assert batch.shape == (2, 1_200)
  np.testing.assert_allclose(batch[0, 99:999], batch[1, 99:999], atol=0.01)


def test_the_synthetic_clip_is_audio():
  (waveform,) = clips.synthetic().waveforms
  assert 0.2 < np.abs(waveform).max() < 1


def test_no_clips_are_refused():
  with pytest.raises(ValueError, match='There are no clips'):
    clips.Clips(waveforms=(), rates_hz=(), about='')
