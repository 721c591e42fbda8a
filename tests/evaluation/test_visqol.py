# SPDX-License-Identifier: Apache-2.0
"""ViSQOL orders copies as an ear would."""

import numpy as np
import pytest

from musiclm_jax.evaluation.visqol import visqol

RATE_HZ = 24_000


@pytest.mark.slow
def test_an_exact_copy_scores_above_a_noisy_one_and_that_above_noise():
  pytest.importorskip('visqol')
  draw = np.random.default_rng(0)
  time = np.arange(5 * RATE_HZ) / RATE_HZ
  waveform = sum(
    0.1 / k * np.sin(2 * np.pi * 233 * k * time) * np.exp(-(time % 0.5) * 3)
    for k in range(1, 12)
  )
  noise = draw.normal(size=time.size)
  level = 0.1 * np.sqrt(np.mean(waveform**2))
  scores = [
    visqol(waveform, copy, sample_rate_hz=RATE_HZ)
    for copy in (waveform, waveform + level * noise, 0.1 * noise)
  ]
  assert scores == sorted(scores, reverse=True)
  assert scores[0] > 4.5 > scores[1] + 0.3
  assert scores[2] < 2


def test_two_lengths_are_refused():
  with pytest.raises(ValueError, match='7 samples and the estimate 5'):
    visqol(np.zeros(7), np.zeros(5), sample_rate_hz=RATE_HZ)
