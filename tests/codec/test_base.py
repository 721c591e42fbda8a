# SPDX-License-Identifier: Apache-2.0
import dataclasses
import fractions
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import base, soundstream
from musiclm_jax.quantization import residual
from musiclm_jax.streams import TokenStream

HOP = 2 * 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignCodecConfig:
  """A codec of one bit a sample, from outside the package."""

  sample_rate_hz: int

  @property
  def stream(self):
    return TokenStream(
      name='acoustic',
      rate_hz=fractions.Fraction(self.sample_rate_hz),
      num_codebooks=1,
      codebook_size=2,
    )

  def make_codec(self, weights, *, stream):
    return SignCodec(self, weights['params']['gain'], stream)


class SignCodec:
  hop_samples = 1

  def __init__(self, config, gain, stream):
    self.sample_rate_hz = config.sample_rate_hz
    self.gain = gain
    self.stream = stream

  def encode(self, waveform, *, sample_rate_hz, num_levels=None):
    return (np.asarray(waveform) > 0).astype(np.int32)[..., None]

  def decode(self, codes):
    return (2 * codes[..., 0] - 1) * self.gain


def soundstream_config():
  return soundstream.SoundStreamConfig(
    sample_rate_hz=24_000,
    channels=5,
    strides=(2, 3),
    embed_dim=7,
    quantizer=residual.ResidualQuantizerConfig(num_levels=3, codebook_size=17),
  )


def publish(directory, config, weights, *, kind='codec'):
  return bundle.publish(
    directory,
    bundle.BundleContents(
      kind=kind, config=config, weights=weights, stream_out=config.stream
    ),
  )


@pytest.mark.slow
def test_a_soundstream_comes_back_as_it_was_published(tmp_path):
  config = soundstream_config()
  module = soundstream.SoundStream(config)
  waveform = np.random.default_rng(0).uniform(-1, 1, (2, 31 * HOP))
  waveform = waveform.astype(np.float32)
  key = jax.random.key(0)
  variables = jax.jit(module.init)(key, waveform, key=key)
  fingerprint = publish(tmp_path, config, variables)

  loaded = base.load_codec(tmp_path)
  assert isinstance(loaded, base.Codec)
  assert loaded.stream == dataclasses.replace(
    config.stream, fingerprint=fingerprint
  )
  codes = loaded.encode(waveform, sample_rate_hz=24_000)
  encode = jax.jit(functools.partial(module.apply, method='encode'))
  expected = encode(nn.unbox(variables), waveform)
  assert np.mean(codes == expected) > 0.99


def test_a_codec_from_outside_the_package_is_loaded_alike(tmp_path):
  publish(
    tmp_path,
    SignCodecConfig(sample_rate_hz=101),
    {'params': {'gain': np.float32(0.5)}},
  )
  loaded = base.load_codec(tmp_path)
  assert isinstance(loaded, base.Codec) and loaded.sample_rate_hz == 101
  codes = loaded.encode(np.array([[0.1, -0.7]]), sample_rate_hz=101)
  np.testing.assert_array_equal(loaded.decode(codes), [[0.5, -0.5]])


def test_a_bundle_of_another_kind_is_refused(tmp_path):
  publish(
    tmp_path,
    SignCodecConfig(sample_rate_hz=101),
    {'params': {'gain': np.float32(0.5)}},
    kind='semantic',
  )
  with pytest.raises(ValueError, match="kind 'codec' is wanted"):
    base.load_codec(tmp_path)
