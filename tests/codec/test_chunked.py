# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.codec import soundstream
from musiclm_jax.quantization import residual
from musiclm_jax.streams import HasCodebooks

KEY = jax.random.key(3)
HOP = 2 * 3
RATE = 24_000


@functools.cache
def built():
  """The codec, and its untouched module and variables to compare with."""
  config = soundstream.SoundStreamConfig(
    sample_rate_hz=RATE,
    channels=5,
    strides=(2, 3),
    embed_dim=7,
    quantizer=residual.ResidualQuantizerConfig(num_levels=3, codebook_size=17),
  )
  module = soundstream.SoundStream(config)
  variables = nn.unbox(
    jax.jit(module.init)(KEY, np.zeros((1, 5 * HOP), np.float32), key=KEY)
  )
  return config.make_codec(variables, stream=config.stream), module, variables


def draw(samples, *, batch=2, seed=0):
  generator = np.random.default_rng(seed)
  return generator.uniform(-1, 1, (batch, samples)).astype(np.float32)


def codec():
  return built()[0]


def whole(inputs, *, method):
  _, module, variables = built()
  return np.asarray(
    jax.jit(functools.partial(module.apply, method=method))(variables, inputs)
  )


def test_a_soundstream_sums_its_codebooks_up_to_latents():
  assert isinstance(codec(), HasCodebooks)
  codes = np.array([[[1, 0, 2]]])
  summed = sum(book[code] for book, code in zip(codec().codebooks, codes[0, 0]))
  np.testing.assert_allclose(
    whole(codes, method='dequantize')[0, 0], summed, atol=1e-6
  )


def test_the_codec_says_what_it_makes():
  assert codec().stream.num_codebooks == 3
  assert codec().hop_samples == HOP
  assert codec().sample_rate_hz == RATE


# One hop, one chunk, and more than two chunks with a hop that is not full.
@pytest.mark.parametrize('frames', (1, 50, 113))
def test_chunks_give_what_the_whole_gives(frames):
  waveform = draw(frames * HOP - 2)
  filled = np.pad(waveform, ((0, 0), (0, 2)))
  codes = codec().encode(waveform, sample_rate_hz=RATE)
  expected = whole(filled, method='encode')
  assert codes.shape == (2, frames, 3)
  assert np.mean(codes == expected) > 0.99
  decoded = codec().decode(expected)
  np.testing.assert_allclose(
    decoded, whole(expected, method='decode'), atol=1e-5
  )


def test_fewer_levels_are_the_first_of_all():
  waveform = draw(7 * HOP)
  codes = codec().encode(waveform, sample_rate_hz=RATE)
  few = codec().encode(waveform, sample_rate_hz=RATE, num_levels=2)
  np.testing.assert_array_equal(few, codes[..., :2])
  np.testing.assert_allclose(
    codec().decode(few), whole(few, method='decode'), atol=1e-5
  )


def test_decoding_ends_where_it_is_told():
  codes = codec().encode(draw(7 * HOP - 4), sample_rate_hz=RATE)
  full = codec().decode(codes)
  assert full.shape == (2, 7 * HOP)
  cut = codec().decode(codes, num_samples=7 * HOP - 4)
  np.testing.assert_array_equal(cut, full[:, : 7 * HOP - 4])
  with pytest.raises(ValueError, match='43 samples are wanted of 7 frames'):
    codec().decode(codes, num_samples=43)


def test_pieces_of_any_lengths_decode_to_exactly_the_whole():
  codes = codec().encode(draw(113 * HOP), sample_rate_hz=RATE)
  pieces = np.split(codes, [7, 60, 61], axis=1)
  heard = list(codec().decode_pieces(pieces))
  np.testing.assert_array_equal(
    np.concatenate(heard, axis=1), codec().decode(codes)
  )
  # A chunk is heard before the next piece is asked for.
  assert next(codec().decode_pieces(iter(pieces))).shape == (2, 50 * HOP)


def test_a_caller_can_stream_chunks_of_any_length():
  waveform = draw(31 * HOP)
  codes, waveforms = [], []
  encoder, decoder = (
    codec().encoder_state(batch=2),
    codec().decoder_state(batch=2),
  )
  for start, stop in ((0, 13), (13, 18), (18, 31)):
    part, encoder = codec().encode_chunk(
      waveform[:, start * HOP : stop * HOP], encoder
    )
    codes.append(part)
    heard, decoder = codec().decode_chunk(part, decoder)
    waveforms.append(heard)
  codes = np.concatenate(codes, axis=1)
  assert np.mean(codes == whole(waveform, method='encode')) > 0.99
  np.testing.assert_allclose(
    np.concatenate(waveforms, axis=1), whole(codes, method='decode'), atol=1e-5
  )


def test_one_program_serves_every_length():
  own, *_ = built()
  own.encode(draw(3 * HOP), sample_rate_hz=RATE)
  before = own._encode._cache_size()
  for frames in (1, 49, 51, 160):
    own.encode(draw(frames * HOP), sample_rate_hz=RATE)
  assert own._encode._cache_size() == before


@pytest.mark.parametrize(
  'waveform, rate, message',
  (
    (draw(30), 44_100, 'takes 24000 Hz, not 44100 Hz'),
    (draw(30)[0], RATE, r'\[batch, samples\], not \[30\]'),
    (draw(0), RATE, 'at least one sample'),
    ((draw(30) * 100).astype(np.int16), RATE, 'not int16'),
    (np.full((1, 30), np.nan, np.float32), RATE, 'NaN or infinite'),
  ),
)
def test_what_is_not_a_waveform_is_an_error_that_says_why(
  waveform, rate, message
):
  with pytest.raises(ValueError, match=message):
    codec().encode(waveform, sample_rate_hz=rate)


def test_a_waveform_without_its_rate_is_an_error():
  with pytest.raises(TypeError, match='sample_rate_hz'):
    codec().encode(draw(30))


@pytest.mark.parametrize(
  'codes, message',
  (
    (np.zeros((1, 5, 4), int), 'has 3 levels, not 4'),
    (np.zeros((5, 3), int), r'\[batch, frames, levels\]'),
    (np.zeros((1, 5, 3)), 'not float64'),
    (np.full((1, 5, 3), 17), r'not within \[0, 17\)'),
    (np.full((1, 5, 3), -1), r'not within \[0, 17\)'),
  ),
)
def test_what_are_not_codes_is_an_error_that_says_why(codes, message):
  with pytest.raises(ValueError, match=message):
    codec().decode(codes)


def test_more_levels_than_there_are_is_an_error():
  with pytest.raises(ValueError, match='has 3 levels, not 5'):
    codec().encode(draw(30), sample_rate_hz=RATE, num_levels=5)
