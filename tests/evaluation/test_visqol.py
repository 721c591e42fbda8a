# SPDX-License-Identifier: Apache-2.0
"""ViSQOL orders copies as an ear would."""

import numpy as np
import pytest

from musiclm_jax.evaluation.visqol import visqol

RATE_HZ = 24_000


@pytest.mark.slow
def test_the_more_noise_the_lower_the_score():
  pytest.importorskip('visqol')
  time = np.arange(5 * RATE_HZ) / RATE_HZ
  waveform = sum(
    0.1 / k * np.sin(2 * np.pi * 233 * k * time) * np.exp(-(time % 0.5) * 3)
    for k in range(1, 12)
  )
  noise = np.random.default_rng(0).normal(size=time.size)
  scores = [
    visqol(waveform, waveform + level * noise, sample_rate_hz=RATE_HZ)
    for level in (0, 1e-4, 3e-3)
  ]
  assert scores == sorted(scores, reverse=True)
  assert scores[0] > 4.7
  assert scores[1] - scores[2] > 0.3


def test_two_lengths_are_refused():
  with pytest.raises(ValueError, match='7 samples and the estimate 5'):
    visqol(np.zeros(7), np.zeros(5), sample_rate_hz=RATE_HZ)
