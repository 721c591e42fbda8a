# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from musiclm_jax.audio import framing
from musiclm_jax.audio import spectral as ours
from musiclm_jax.export.pytorch import spectral


@pytest.mark.parametrize('padding', list(framing.Padding))
def test_log_mel_is_that_of_jax(padding):
  sizes = {
    'sample_rate_hz': 1600,
    'window_samples': 64,
    'hop_samples': 16,
    'num_mels': 61,
    'low_hz': 50.0,
  }
  draws = np.random.default_rng(0)
  waveform = draws.normal(0, 0.1, (2, 701)).astype(np.float32)
  config = ours.MelConfig(padding=padding, **sizes)
  wanted = ours.log_mel(waveform, config=config)
  module = spectral.LogMel(padding=padding.name, **sizes)
  made = module(torch.from_numpy(waveform))
  # Some of these filters hold no bin.
  assert module.num_filters == config.num_filters < 61
  np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_casting_changes_nothing():
  module = spectral.LogMel(
    sample_rate_hz=1600, window_samples=64, hop_samples=16, num_mels=7
  )
  waveform = torch.randn(1, 320, generator=torch.Generator().manual_seed(0))
  wanted = module(waveform)
  assert not module.state_dict()  # Window and filters follow from the sizes.
  assert torch.equal(module.to(torch.bfloat16)(waveform), wanted)
