# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: exact frames, seams, batch mates, and what it refuses."""

import dataclasses
import fractions
import functools
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from musiclm_jax.audio import resample
from musiclm_jax.semantic import tokenizer, w2v_bert
from musiclm_jax.streams import HasCodebooks
from tests.semantic import toy_tokenizer
from tests.semantic.toy_tokenizer import CONFIG, HOP, RATE_HZ, music


@pytest.fixture(scope='module')
def toy():
  return toy_tokenizer.make()


def encode(toy, waveform):
  return toy.encode(waveform, sample_rate_hz=RATE_HZ)


def reference(waveform):
  """The whole clip in one pass of the module, unbatched and unpadded."""
  hidden = jax.jit(
    functools.partial(
      w2v_bert.W2vBert(toy_tokenizer.MODEL).apply,
      num_mlm_blocks=1,
      method='features',
    )
  )(
    {'params': toy_tokenizer.params()},
    waveform[None],
    sample_mask=np.ones((1, waveform.size), bool),
  )
  return nearest(np.asarray(hidden)[0])


def nearest(features):
  centroids = toy_tokenizer.weights()[tokenizer.CENTROIDS]
  return ((features[:, None] - centroids) ** 2).sum(-1).argmin(-1)


def test_codes_are_the_nearest_centroids_whatever_a_clip_is_filled_up_with(toy):
  waveform = music(2.44)  # 61 frames, in a bucket of 100.
  codes = encode(toy, waveform)
  assert codes.dtype == np.int32
  np.testing.assert_array_equal(codes[0], reference(waveform))
  assert len(set(codes[0])) > 2  # The toy tells frames apart.


def test_its_codebook_is_the_centroids(toy):
  assert isinstance(toy, HasCodebooks)
  np.testing.assert_array_equal(
    toy.codebooks[0], toy_tokenizer.weights()[tokenizer.CENTROIDS]
  )


def test_ten_seconds_are_250_frames_at_25_hz():
  config = tokenizer.SemanticTokenizerConfig(
    model=toy_tokenizer.MODEL, num_mlm_blocks=2
  )
  assert config.stream.rate_hz == fractions.Fraction(25)
  assert config.stream.num_frames(10) == 250
  assert (config.window_frames, config.margin_frames) == (750, 125)
  assert config.stream.codebook_size == 1024


@pytest.mark.parametrize(
  'num_samples, num_frames',
  [(HOP, 1), (HOP + 1, 2), (3 * RATE_HZ, 75), (9 * RATE_HZ + 1, 226)],
)
def test_a_frame_that_has_begun_counts(toy, num_samples, num_frames):
  waveform = music(10)[:num_samples]
  assert encode(toy, waveform).shape == (1, num_frames)


def test_any_rate_is_resampled_to_the_same_codes(toy):
  waveform = music(3, rate_hz=24_000)
  codes = toy.encode(waveform, sample_rate_hz=24_000)
  assert codes.shape == (1, 75)
  twin = resample.resample(waveform, from_hz=24_000, to_hz=RATE_HZ)
  np.testing.assert_array_equal(codes, encode(toy, twin))


def test_batch_mates_and_the_place_among_them_change_no_code(toy):
  clips = [music(2.4, seed=seed) for seed in range(5)]
  first = encode(toy, np.stack([clips[0], clips[1], clips[2]]))
  other = encode(toy, np.stack([clips[3], clips[4], clips[0]]))
  np.testing.assert_array_equal(first[0], other[2])
  # Alone it runs in another program; the toy has no frame between two codes.
  np.testing.assert_array_equal(first[0], encode(toy, clips[0])[0])
  assert (first[0] != first[1]).any()


def test_more_rows_than_fit_are_read_in_parts(toy):
  clips = np.stack([music(2.4, seed=seed) for seed in range(11)])
  codes = encode(toy, clips)
  for row in (0, 7, 8, 10):
    np.testing.assert_array_equal(codes[row], encode(toy, clips[row])[0])


def test_a_long_file_is_joined_from_windows_without_their_inner_edges(toy):
  waveform = music(9)  # 225 frames: 0-100, 50-150, 100-200 and the last 100.
  codes = encode(toy, waveform)[0]
  assert codes.shape == (225,)
  starts = {0: (0, 75), 50: (75, 125), 100: (125, 175), 125: (175, 225)}
  for start, (keep, stop) in starts.items():
    window = waveform[start * HOP : (start + 100) * HOP]
    np.testing.assert_array_equal(
      codes[keep:stop], encode(toy, window)[0, keep - start : stop - start]
    )


def test_features_are_what_the_codes_are_made_of(toy):
  waveform = music(3)
  features = toy.features(waveform, sample_rate_hz=RATE_HZ)[0]
  np.testing.assert_array_equal(nearest(features), encode(toy, waveform)[0])


def test_only_the_blocks_that_are_run_are_kept():
  kept = CONFIG.needed(toy_tokenizer.params())
  blocks = {name for name in kept['mlm'] if name.startswith('block_')}
  assert blocks == {'block_0'}
  assert not {'quantizer', 'to_logits', 'to_code'} & set(kept)


@pytest.mark.parametrize(
  'waveform, rate, message',
  [
    (np.zeros(HOP - 1, np.float32), RATE_HZ, '639 samples .* 0.04 s'),
    (np.zeros(HOP, np.float32), 0, 'says nothing of its rate'),
    (np.full(HOP, np.nan, np.float32), RATE_HZ, 'NaN or infinite'),
    (np.zeros(HOP, np.int16), RATE_HZ, 'not int16'),
    (np.zeros((1, 1, HOP), np.float32), RATE_HZ, r'\[batch, samples\]'),
  ],
)
def test_what_cannot_be_encoded_is_named(toy, waveform, rate, message):
  with pytest.raises(ValueError, match=message):
    toy.encode(waveform, sample_rate_hz=rate)


def test_the_centroids_of_a_wider_model_are_named():
  weights = toy_tokenizer.weights() | {
    tokenizer.CENTROIDS: np.zeros((11, 17), np.float32)
  }
  with pytest.raises(ValueError, match=r'\[11, 17\].*\[11, 14\].*another one'):
    CONFIG.make_tokenizer(weights, stream=CONFIG.stream)


def test_weights_of_another_tokenizer_are_named(tmp_path):
  mine, other = tmp_path / 'mine', tmp_path / 'other'
  fingerprints = [toy_tokenizer.publish(mine), toy_tokenizer.publish(other, 1)]
  shutil.copy(other / 'weights.safetensors', mine)
  with pytest.raises(ValueError, match=f'published as {fingerprints[0]}'):
    tokenizer.SemanticTokenizer.load(mine)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'num_mlm_blocks': 3}, 'Block 3 .* which has 2'),
    ({'bucket_seconds': 3}, 'not whole buckets of 3 s'),
    ({'margin_seconds': 2}, '2 s dropped at each inner edge nothing is left'),
  ],
)
def test_a_config_that_contradicts_itself_is_named(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **changes)


@pytest.mark.slow
def test_a_second_process_makes_the_same_codes_bit_for_bit(tmp_path):
  toy_tokenizer.publish(tmp_path / 'model')
  np.save(tmp_path / 'waveform.npy', np.stack([music(9), music(9, seed=1)]))
  code = (
    'import sys, numpy; from musiclm_jax.semantic import tokenizer;'
    ' folder = sys.argv[1];'
    ' loaded = tokenizer.SemanticTokenizer.load(folder + "/model");'
    ' waveform = numpy.load(folder + "/waveform.npy");'
    ' codes = loaded.encode(waveform, sample_rate_hz=16000);'
    ' numpy.save(folder + "/" + sys.argv[2] + ".npy", codes)'
  )
  for name in ('first', 'second'):
    subprocess.run(
      [sys.executable, '-c', code, str(tmp_path), name],
      cwd=pathlib.Path(__file__).parents[2],
      check=True,
    )
  first, second = (
    np.load(tmp_path / f'{name}.npy') for name in ('first', 'second')
  )
  assert first.shape == (2, 225)
  np.testing.assert_array_equal(first, second)
  here = tokenizer.SemanticTokenizer.load(tmp_path / 'model').encode(
    np.load(tmp_path / 'waveform.npy'), sample_rate_hz=RATE_HZ
  )
  np.testing.assert_array_equal(first, here)
