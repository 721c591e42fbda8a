# SPDX-License-Identifier: Apache-2.0
"""Towers whose every embedding can be worked out by hand, and their bundles."""

import dataclasses
import re

import numpy as np

from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import base, mulan
from musiclm_jax.quantization import residual

RATE_HZ = 200
WINDOW_SECONDS = 3
NUM_BANDS = 7
BAND_HZ = 10  # Band n is a tone of (n + 1) × 10 Hz, or the text 'band n'.
NUM_LEVELS = 2
CODEBOOK_SIZE = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyTowersConfig:
  """Towers of one weight: a gain for each band, which the audio tower has."""

  embed_dim: int = NUM_BANDS

  def make_towers(self, weights):
    return ToyTowers(weights['params']['gains'])

  def init(self, key):
    del key
    return towers_weights(gains=0.0)  # Deaf: every clip is embedded alike.


class ToyTowers:
  """A window is its share of power by band; a text names its bands.

  Attributes:
    num_calls: Of `embed_audio`, to count.
  """

  sample_rate_hz = RATE_HZ
  window_samples = RATE_HZ * WINDOW_SECONDS
  embed_dim = NUM_BANDS

  def __init__(self, gains):
    self.gains = np.asarray(gains)
    self.num_calls = 0

  def embed_audio(self, waveform, *, sample_mask):
    assert waveform.shape == sample_mask.shape
    assert not waveform[~sample_mask].any()
    self.num_calls += 1
    power = np.abs(np.fft.rfft(waveform)) ** 2
    bins = (np.arange(NUM_BANDS) + 1) * BAND_HZ * WINDOW_SECONDS
    bands = power[:, bins] * self.gains
    return _unit(bands + 1e-3)

  def embed_text(self, texts):
    rows = np.full((len(texts), NUM_BANDS), 1e-3)
    for row, text in zip(rows, texts):
      for band in re.findall(r'band (\d)', text):
        row[int(band)] += 1
    return _unit(rows)


def space():
  return mulan.MuLanSpace(ToyTowers(np.ones(NUM_BANDS)))


def tone(band, *, seconds, rate_hz=RATE_HZ):
  time = np.arange(int(seconds * rate_hz)) / rate_hz
  wave = 0.5 * np.sin(2 * np.pi * (band + 1) * BAND_HZ * time)
  return wave.astype(np.float32)


def direction(*bands):
  """The unit vector between bands."""
  return _unit(np.eye(NUM_BANDS)[list(bands)].sum(axis=0)[None])[0]


def quantizer_config():
  return residual.ResidualQuantizerConfig(
    num_levels=NUM_LEVELS, codebook_size=CODEBOOK_SIZE
  )


def codebooks(*, seed=0):
  """Statistics whose first level has the directions of bands 0 to 4."""
  draw = np.random.default_rng(seed)
  shape = (NUM_LEVELS, CODEBOOK_SIZE, NUM_BANDS)
  embeddings = 0.1 * draw.standard_normal(shape)
  embeddings[0] = np.eye(NUM_BANDS)[:CODEBOOK_SIZE]
  return {
    'embeddings': embeddings.astype(np.float32),
    'counts': np.ones(shape[:2], np.float32),
    'initialised': np.bool_(True),
  }


def towers_weights(*, gains=1.0):
  return {'params': {'gains': np.full(NUM_BANDS, gains, np.float32)}}


def publish_towers(directory, *, gains=1.0):
  contents = bundle.BundleContents(
    kind=base.TOWERS,
    config=ToyTowersConfig(),
    weights=towers_weights(gains=gains),
    stream_out=None,
  )
  return bundle.publish(directory, contents)


def publish_conditioner(directory, *, seed=0):
  config = mulan.MuLanConditionerConfig(
    towers=ToyTowersConfig(), quantizer=quantizer_config()
  )
  contents = bundle.BundleContents(
    kind=base.CONDITIONER,
    config=config,
    weights={
      mulan.TOWERS: towers_weights(),
      mulan.QUANTIZER: {residual.CODEBOOKS: codebooks(seed=seed)},
    },
    stream_out=config.stream,
    trained_on={base.TRAINED_ON_TOWERS: 'towers'},
  )
  return bundle.publish(directory, contents)


def _unit(rows):
  return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(
    np.float32
  )
