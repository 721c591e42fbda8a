# SPDX-License-Identifier: Apache-2.0
"""Codes of a clip, and conditions of every crop that starts on a second."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.conditioning import base as conditioning
from musiclm_jax.data import token_corpus, token_shards
from musiclm_jax.tokenization import tokenize
from tests.data import token_toys, toys
from tests.tokenization import fakes

RATE_HZ = fakes.RATE_HZ
WINDOW = fakes.WINDOW_SECONDS


def tokenizers(**changes):
  return tokenize.Tokenizers(
    **{
      'codec': fakes.Codec(),
      'semantic': fakes.Semantic(),
      'conditioner': fakes.Conditioner(),
    }
    | changes
  )


def waveform(num_samples):
  return (
    np.random.default_rng(num_samples)
    .uniform(-1, 1, num_samples)
    .astype(np.float32)
  )


def encode(clip, **changes):
  return tokenizers(**changes).encode(
    clip, sample_rate_hz=RATE_HZ, condition_seconds=(7, WINDOW)
  )


def test_it_is_an_encoder_of_streams_in_the_order_of_the_cascade():
  assert isinstance(tokenizers(), token_shards.ClipEncoder)
  assert [s.name for s in tokenizers().streams] == [
    'mulan',
    'semantic',
    'acoustic',
  ]
  assert [s.name for s in tokenizers(conditioner=None).streams] == [
    'semantic',
    'acoustic',
  ]


def test_codebooks_are_those_of_the_models_that_have_some():
  assert tokenizers().codebooks.keys() == {'semantic'}


def test_codes_are_those_of_the_models_on_the_whole_clip():
  clip = waveform(11 * RATE_HZ + 13)
  codes = encode(clip)
  np.testing.assert_array_equal(
    codes['acoustic'],
    fakes.Codec().encode(clip[None], sample_rate_hz=RATE_HZ)[0],
  )
  np.testing.assert_array_equal(
    codes['semantic'][:, 0],
    fakes.Semantic().encode(clip[None], sample_rate_hz=RATE_HZ)[0],
  )
  assert set(encode(clip, conditioner=None)) == {'acoustic', 'semantic'}


@pytest.mark.parametrize('start', range(5))
def test_a_crop_is_conditioned_as_if_it_were_cut_out(start):
  """MusicLM's sections 3.1 and 3.2, clip by clip: the law of the look-up."""
  clip = waveform(11 * RATE_HZ + 13)
  found = encode(clip)['mulan']
  assert found.shape == (12, 2, fakes.MULAN.num_codebooks)
  model = fakes.Conditioner()
  for index, seconds in enumerate((7, WINDOW)):
    crop = clip[start * RATE_HZ : (start + seconds) * RATE_HZ]
    wanted = model.encode_audio(crop[None], sample_rate_hz=RATE_HZ)[0, 0]
    np.testing.assert_array_equal(found[start, index], wanted)
  assert not np.array_equal(found[start, 0], found[start, 1])


def test_after_the_last_window_the_condition_stays():
  clip = waveform(11 * RATE_HZ + 13)
  found = encode(clip)['mulan']
  last = 11 - WINDOW  # The start of the last window.
  np.testing.assert_array_equal(found[last:], found[[last] * 4])
  # Of a longer crop, what windows there are still count.
  embeddings = fakes.Conditioner().embed_windows(clip, sample_rate_hz=RATE_HZ)
  mean = conditioning.mean_direction(embeddings[last - 1 :])
  np.testing.assert_array_equal(
    found[last - 1, 0], fakes.Conditioner().quantize(mean[None])[0, 0]
  )


@pytest.mark.parametrize('seconds', [1, WINDOW - 1])
def test_a_clip_shorter_than_a_window_is_one_window(seconds):
  clip = waveform(seconds * RATE_HZ + 5)
  found = encode(clip)['mulan']
  wanted = fakes.Conditioner().encode_audio(clip[None], sample_rate_hz=RATE_HZ)[
    0
  ]
  assert len(found) == seconds + 1
  np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


def test_a_model_without_a_fingerprint_is_refused():
  codec = fakes.Codec()
  codec.stream = dataclasses.replace(codec.stream, fingerprint=None)
  with pytest.raises(ValueError, match="codes of 'acoustic' have no finger"):
    tokenizers(codec=codec)


def test_a_corpus_of_tones_becomes_a_corpus_of_codes(tmp_path):
  info = token_toys.write(
    tmp_path, tokenizers(), num_clips=5, condition_seconds=(7, WINDOW)
  )
  assert info.streams == tokenizers().streams
  tokens = token_corpus.TokenCorpus(tmp_path / 'tokens')
  clip = toys.Sines().waveform(3)
  codes = encode(np.round(clip * 2**15).astype(np.float32) / 2**15)
  window = tokens.read(
    3, start_second=1, window_seconds=1, streams=tokens.streams
  )
  for name, rate in (('semantic', 2), ('acoustic', 5)):
    np.testing.assert_array_equal(window[name], codes[name][rate : 2 * rate])
  np.testing.assert_array_equal(window['mulan'][0], codes['mulan'][1, 1])
