# SPDX-License-Identifier: Apache-2.0
"""Windows, their mean and its codes, by hand on towers of known bands."""

import numpy as np
import pytest

from musiclm_jax.conditioning import base, mulan
from musiclm_jax.streams import HasCodebooks
from tests.conditioning import toys

RATE = toys.RATE_HZ


@pytest.fixture(scope='module')
def conditioner():
  config = mulan.MuLanConditionerConfig(
    towers=toys.ToyTowersConfig(), quantizer=toys.quantizer_config()
  )
  weights = {
    mulan.TOWERS: toys.towers_weights(),
    mulan.QUANTIZER: {'codebooks': toys.codebooks()},
  }
  return config.make_conditioner(weights, stream=config.stream)


def close(found, expected):
  # The toy's floor and the resampler's edges.
  np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_clip_has_a_window_for_each_second_that_holds_a_whole_one():
  # Of 3 s each, at 0, 1, 2 and 3 s; band 1 for 3 s, then band 4.
  clip = np.concatenate([toys.tone(1, seconds=3), toys.tone(4, seconds=3.7)])
  found = toys.space().embed_windows(clip, sample_rate_hz=RATE)
  assert found.shape == (4, toys.NUM_BANDS) and found.dtype == np.float32
  close(found[0], toys.direction(1))
  close(found[3], toys.direction(4))
  assert (
    found[1, 1] > found[1, 4] > 0.1
  )  # Two seconds of one, one of the other.
  assert found[2, 4] > found[2, 1] > 0.1


def test_another_hop_gives_every_nth_window():
  clip = np.random.default_rng(0).uniform(-1, 1, 11 * RATE).astype(np.float32)
  every = toys.space().embed_windows(clip, sample_rate_hz=RATE)
  third = toys.space().embed_windows(clip, sample_rate_hz=RATE, hop_seconds=3)
  assert len(every) == 9
  np.testing.assert_array_equal(third, every[::3])


def test_a_clip_shorter_than_a_window_is_one():
  short = toys.space().embed_windows(
    toys.tone(2, seconds=1), sample_rate_hz=RATE
  )
  assert short.shape == (1, toys.NUM_BANDS)
  assert np.argmax(short[0]) == 2


def test_a_clip_is_the_mean_direction_of_its_windows_and_batches_change_nothing():
  draw = np.random.default_rng(1)
  clips = draw.uniform(-1, 1, (5, 7 * RATE)).astype(np.float32)
  found = toys.space().embed_audio(clips, sample_rate_hz=RATE)
  for clip, embedding in zip(clips, found):
    windows = toys.space().embed_windows(clip, sample_rate_hz=RATE)
    assert len(windows) == 5
    np.testing.assert_array_equal(embedding, base.mean_direction(windows))


def test_windows_of_many_clips_share_the_towers_batches():
  towers = toys.ToyTowers(np.ones(toys.NUM_BANDS))
  clips = np.zeros((11, 3 * RATE), np.float32)
  mulan.MuLanSpace(towers).embed_audio(clips, sample_rate_hz=RATE)
  assert towers.num_calls == 2  # Eight and three, not eleven.


def test_a_clip_at_another_rate_is_resampled():
  clip = toys.tone(3, seconds=6, rate_hz=3 * RATE)
  found = toys.space().embed_windows(clip, sample_rate_hz=3 * RATE)
  assert len(found) == 4
  close(found, np.tile(toys.direction(3), (4, 1)))


def test_codes_of_audio_and_of_the_text_that_describes_it_are_equal(
  conditioner,
):
  clips = np.stack([toys.tone(2, seconds=5), toys.tone(4, seconds=5)])
  codes = conditioner.encode_audio(clips, sample_rate_hz=RATE)
  assert codes.shape == (2, 1, toys.NUM_LEVELS) and codes.dtype == np.int32
  np.testing.assert_array_equal(
    codes[:, 0, 0], [2, 4]
  )  # As the codebook has it.
  texts = conditioner.encode_text(['band 2', 'band 4'])
  np.testing.assert_array_equal(texts[:, 0, 0], codes[:, 0, 0])


def test_codes_do_not_depend_on_how_many_are_made_at_a_time(conditioner):
  points = np.random.default_rng(2).standard_normal((67, toys.NUM_BANDS))
  codes = conditioner.quantize(points)
  assert codes.shape == (67, 1, toys.NUM_LEVELS)
  apart = [conditioner.quantize(point[None])[0] for point in points[::11]]
  np.testing.assert_array_equal(codes[::11], apart)
  assert len(np.unique(codes[:, 0], axis=0)) > 3  # The probe itself works.


def test_codes_stand_for_unit_vectors_near_what_was_quantized(conditioner):
  points = np.stack([toys.direction(1), toys.direction(3)])
  codes = conditioner.quantize(points)
  back = conditioner.dequantize(codes)
  np.testing.assert_allclose(np.linalg.norm(back, axis=-1), 1, rtol=1e-6)
  assert np.all(np.sum(back * points, axis=-1) > 0.9)
  coarse = conditioner.dequantize(codes[..., :1])
  np.testing.assert_allclose(coarse, points, atol=1e-6)


def test_a_code_stands_for_the_sum_of_its_levels_vectors(conditioner):
  assert isinstance(conditioner, HasCodebooks)
  codes = conditioner.quantize(np.stack([toys.direction(1)]))[0, 0]
  summed = sum(
    book[code] for book, code in zip(conditioner.codebooks, codes, strict=True)
  )
  np.testing.assert_allclose(
    summed / np.linalg.norm(summed),
    conditioner.dequantize(codes[None, None])[0],
    atol=1e-6,
  )


def test_a_space_comes_from_towers_and_from_a_conditioner_alike(tmp_path):
  toys.publish_towers(tmp_path / 'towers')
  toys.publish_conditioner(tmp_path / 'conditioner')
  texts = ['band 1', 'band 6 over band 2']
  spaces = [
    mulan.load_space(tmp_path / kind) for kind in ('towers', 'conditioner')
  ]
  assert all(isinstance(space, base.JointSpace) for space in spaces)
  assert not isinstance(spaces[0], base.Conditioner)
  np.testing.assert_array_equal(*(space.embed_text(texts) for space in spaces))


def test_a_space_of_another_kind_of_bundle_is_refused(tmp_path):
  from tests.evaluation import toy_codec

  toy_codec.publish(tmp_path)
  with pytest.raises(ValueError, match="holds a 'codec'.*'mulan'"):
    mulan.load_space(tmp_path)


@pytest.mark.parametrize(
  'waveform, message',
  [
    (np.zeros(0, np.float32), r'\[samples\] with at least one sample'),
    (np.zeros((2, 30), np.float32), r'\[samples\].*not \[2, 30\]'),
    (np.zeros(30, np.int16), 'floats in .* not int16'),
    (np.full(30, np.nan, np.float32), 'NaN or infinite'),
  ],
)
def test_what_is_no_waveform_is_refused(waveform, message):
  with pytest.raises(ValueError, match=message):
    toys.space().embed_windows(waveform, sample_rate_hz=RATE)


def test_a_lone_text_and_no_text_are_refused(conditioner):
  for texts in ('band 1', []):
    with pytest.raises(ValueError, match='list of at least one text'):
      conditioner.embed_text(texts)


def test_points_of_another_space_are_refused(conditioner):
  with pytest.raises(ValueError, match=r'\[batch, 7\], not \[3, 5\]'):
    conditioner.quantize(np.zeros((3, 5)))
