# SPDX-License-Identifier: Apache-2.0
"""A tone shows where it is, and the picture is a picture."""

import matplotlib.image
import numpy as np
import pytest

from musiclm_jax.evaluation import pictures

RATE_HZ = 24_000
TIME = np.arange(RATE_HZ) / RATE_HZ


def test_a_tone_is_brightest_at_its_frequency():
  tone = np.sin(2 * np.pi * 3000 * TIME)
  power = pictures.spectrogram_db(tone, sample_rate_hz=RATE_HZ)
  middle = power[:, power.shape[1] // 2]
  assert np.argmax(middle) == 3000 * 1024 / RATE_HZ
  assert middle.max() > np.median(middle) + 60


def test_silence_is_drawn_too(tmp_path):
  path = tmp_path / 'silence.png'
  pictures.save_spectrograms(
    {'silence': np.zeros(RATE_HZ, np.float32)},
    sample_rate_hz=RATE_HZ,
    path=path,
  )
  assert path.stat().st_size


def test_one_row_is_drawn_for_each_waveform(tmp_path):
  tone = np.sin(2 * np.pi * 3000 * TIME)
  heights = []
  for count in (1, 3):
    path = tmp_path / f'{count}.png'
    pictures.save_spectrograms(
      {f'copy {i}': tone for i in range(count)},
      sample_rate_hz=RATE_HZ,
      path=path,
    )
    picture = matplotlib.image.imread(path)
    heights.append(picture.shape[0])
    # Dark and bright at once: something was drawn.
    assert picture[..., :3].std() > 0.05
  assert heights[1] == pytest.approx(3 * heights[0], abs=2)


def test_nothing_to_draw_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='no waveform'):
    pictures.save_spectrograms({}, sample_rate_hz=7, path=tmp_path / 'a.png')


def test_less_than_a_window_is_drawn_too():
  power = pictures.spectrogram_db(np.ones(31, np.float32), sample_rate_hz=24)
  assert power.shape[0] == 513
  assert power.max() > -80
