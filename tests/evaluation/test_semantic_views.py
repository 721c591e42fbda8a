# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import abx, semantic_views
from tests.semantic import toy_tokenizer
from tests.semantic.toy_tokenizer import RATE_HZ, music

NUM_FRAMES = 30  # Of 1.2 s.


@pytest.fixture(scope='module')
def described():
  """Every view, and the frames of one waveform in it."""
  views = semantic_views.views(
    toy_tokenizer.make(),
    waveforms=lambda: [music(1.2, seed=seed) for seed in range(5)],
    sample_rate_hz=RATE_HZ,
  )
  frames = semantic_views.frames_of(views, music(1.2), sample_rate_hz=RATE_HZ)
  return {view.name: (view, frames[view.name]) for view in views}


def test_every_view_has_the_frame_rate_of_the_tokens(described):
  shapes = {name: frames.shape for name, (_, frames) in described.items()}
  assert shapes == {
    'log-mel': (NUM_FRAMES, 20),
    'untrained network': (NUM_FRAMES, 14),
    'trained network': (NUM_FRAMES, 14),
    'tokens of log-mel': (NUM_FRAMES,),
    'tokens of untrained network': (NUM_FRAMES,),
    'tokens': (NUM_FRAMES,),
  }


def test_the_untrained_network_is_another_one(described):
  trained, untrained = (
    described[name][1] for name in ('trained network', 'untrained network')
  )
  assert np.abs(trained - untrained).mean() > 0.1


def test_a_vector_is_the_mean_over_time_or_the_share_of_each_token(described):
  view, frames = described['log-mel']
  np.testing.assert_allclose(view.pool(frames), frames.mean(0))
  view, codes = described['tokens']
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
  levels = np.array([0, 5, 9], np.float32)
  waveforms = [np.repeat(levels[order], 7) for order in ([0, 1, 2], [2, 0, 1])]
  tokens = semantic_views.clustered(
    lambda waveform, sample_rate_hz: waveform[..., None],
    waveforms=lambda: waveforms,
    sample_rate_hz=1,
    num_clusters=3,
    seed=0,
  )
  first, second = (tokens(row[:, None]) for row in waveforms)
  assert len(set(first)) == 3
  np.testing.assert_array_equal(first[:7], second[7:14])
  np.testing.assert_array_equal(first[14:], second[:7])


def test_what_two_views_share_is_heard_once():
  calls = []

  def listen(waveform, *, sample_rate_hz):
    calls.append(sample_rate_hz)
    return waveform[..., None]

  shared = {'listen': listen, 'pool': np.mean, 'distance': abx.cosine_distance}
  views = [
    semantic_views.View(name='as it is', **shared),
    semantic_views.View(name='doubled', read=lambda x: 2 * x, **shared),
  ]
  frames = semantic_views.frames_of(views, np.ones(3), sample_rate_hz=8)
  assert calls == [8]
  np.testing.assert_array_equal(2 * frames['as it is'], frames['doubled'])
