# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import semantic_views
from tests.semantic import toy_tokenizer
from tests.semantic.toy_tokenizer import RATE_HZ, music

NUM_FRAMES = 30  # Of 1.2 s.


@pytest.fixture(scope='module')
def frames_of():
  """The frames of one waveform in every view."""
  waveform = music(1.2)[None]
  return {
    view.name: (view, view.frames(waveform, sample_rate_hz=RATE_HZ)[0])
    for view in semantic_views.views(
      toy_tokenizer.make(),
      waveforms=lambda: [music(1.2, seed=seed) for seed in range(5)],
      sample_rate_hz=RATE_HZ,
    )
  }


def test_every_view_has_the_frame_rate_of_the_tokens(frames_of):
  shapes = {name: frames.shape for name, (_, frames) in frames_of.items()}
  assert shapes == {
    'log-mel': (NUM_FRAMES, 20),
    'untrained network': (NUM_FRAMES, 14),
    'trained network': (NUM_FRAMES, 14),
    'tokens of log-mel': (NUM_FRAMES,),
    'tokens of untrained network': (NUM_FRAMES,),
    'tokens': (NUM_FRAMES,),
  }


def test_the_untrained_network_is_another_one(frames_of):
  trained, untrained = (
    frames_of[name][1] for name in ('trained network', 'untrained network')
  )
  assert np.abs(trained - untrained).mean() > 0.1


def test_a_vector_is_the_mean_over_time_or_the_share_of_each_token(frames_of):
  view, frames = frames_of['log-mel']
  np.testing.assert_allclose(view.pool(frames), frames.mean(0))
  view, codes = frames_of['tokens']
  shares = view.pool(codes)
  assert shares.shape == (toy_tokenizer.NUM_CLUSTERS,)
  assert shares[codes[0]] == pytest.approx(np.mean(codes == codes[0]))


def test_log_mel_of_another_rate_has_the_same_frames():
  frames = semantic_views.log_mel_of(toy_tokenizer.make())
  low = music(1.2)[None]
  high = music(1.2, rate_hz=2 * RATE_HZ)[None]
  here = frames(low, sample_rate_hz=RATE_HZ)
  there = frames(high, sample_rate_hz=2 * RATE_HZ)
  assert here.shape == there.shape
  assert np.median(np.abs(here - there)) < 0.1


def test_tokens_of_any_frames_tell_apart_what_the_frames_do():
  levels = np.array([0.0, 5.0, 9.0])
  waveforms = [np.repeat(levels[order], 7) for order in ([0, 1, 2], [2, 0, 1])]
  tokens = semantic_views.clustered(
    lambda waveform, sample_rate_hz: waveform[..., None],
    waveforms=lambda: waveforms,
    sample_rate_hz=1,
    num_clusters=3,
    seed=0,
  )
  first, second = tokens(np.stack(waveforms), sample_rate_hz=1)
  assert len(set(first)) == 3
  np.testing.assert_array_equal(first[:7], second[7:14])
  np.testing.assert_array_equal(first[14:], second[:7])
