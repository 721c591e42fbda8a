# SPDX-License-Identifier: Apache-2.0
"""That it is JAX's tokenizer is in the parity sheet of the fixture."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from musiclm_jax.audio import framing
from musiclm_jax.export.pytorch import semantic
from tests.semantic import toy_tokenizer

HOP = toy_tokenizer.HOP


@pytest.fixture(scope='module')
def tokenizer(exported_semantic):
  return semantic.SemanticTokenizer.from_pretrained(
    exported_semantic[0] / 'semantic'
  )


def clip(num_samples, seed=0):
  music = toy_tokenizer.music(num_samples / 16_000, seed=seed)
  return torch.from_numpy(music)[:num_samples]


def test_every_figure_of_the_sheet_has_a_bound_that_holds(exported_semantic):
  _, sheet = exported_semantic
  assert all(check.bound and check.passed for check in sheet.checks)
  names = {check.name for check in sheet.checks}
  assert {
    'subsampling.convolutions.1',
    'contrastive.blocks.0.convolution.depthwise',
    'mlm.past_bias',
  } < names
  # More than one window, whose codes are not all the same.
  assert max(check.shape[-1] for check in sheet.checks) > 100


@hypothesis.given(
  num_frames=st.integers(1, 400),
  window=st.integers(1, 70),
  margin=st.integers(0, 20),
)
def test_windows_are_those_of_jax(num_frames, window, margin):
  hypothesis.assume(2 * margin < window)
  wanted = framing.covering_windows(
    num_frames, window_frames=window, margin_frames=margin
  )
  made = semantic.covering_windows(
    num_frames, min(window, num_frames), margin_frames=margin
  )
  assert list(made) == [(part.start, part.kept) for part in wanted]


@pytest.mark.parametrize(('extra', 'frames'), [(0, 17), (1, 18), (HOP, 18)])
def test_a_frame_that_has_begun_counts(tokenizer, extra, frames):
  codes = tokenizer.encode(clip(17 * HOP + extra), 16_000)
  assert codes.shape == (1, frames)
  assert codes.dtype == torch.int64


def test_batch_mates_change_nothing(tokenizer):
  # Of two windows each, and so more rows than are read at once.
  clips = torch.stack([clip(150 * HOP, seed=seed) for seed in range(5)])
  codes = tokenizer.encode(clips, 16_000)
  assert len(codes.unique()) > 3
  for row in (0, 4):
    assert torch.equal(tokenizer.encode(clips[row], 16_000)[0], codes[row])


def test_codes_are_the_centroids_nearest_to_the_features(tokenizer):
  features = tokenizer.features(clip(31 * HOP), 16_000)
  distances = torch.cdist(features, tokenizer.clusters.centroids[None])
  codes = tokenizer.encode(clip(31 * HOP), 16_000)
  assert torch.equal(distances.argmin(dim=-1), codes)


def test_another_rate_is_resampled(tokenizer):
  music = torch.from_numpy(toy_tokenizer.music(2, rate_hz=24_000))
  other = tokenizer.features(music, 24_000)
  same = tokenizer.features(clip(2 * 16_000), 16_000)
  # Both synthesised: notes begin on another sample.
  assert other.shape == same.shape
  assert np.corrcoef(other.flatten(), same.flatten())[0, 1] > 0.99


@pytest.mark.parametrize(
  ('waveform', 'rate_hz', 'message'),
  [
    (torch.zeros(HOP, dtype=torch.int16), 16_000, 'of floats .* torch.int16'),
    (torch.zeros(1, 1, HOP), 16_000, r'not torch.float32 \[1, 1, 640\]'),
    (torch.full((HOP,), torch.nan), 16_000, 'NaN or infinite'),
    (torch.zeros(HOP - 1), 16_000, 'less than one frame of 640'),
    (torch.zeros(HOP), 0, 'from 0 Hz'),
  ],
)
def test_what_cannot_be_encoded_is_named(tokenizer, waveform, rate_hz, message):
  with pytest.raises(ValueError, match=message):
    tokenizer.encode(waveform, rate_hz)
