# SPDX-License-Identifier: Apache-2.0
"""Tokenizers without weights whose codes follow from the samples they cover."""

from __future__ import annotations

import numpy as np

from musiclm_jax.conditioning import base
from tests.data import token_toys, toys

RATE_HZ = toys.RATE_HZ
WINDOW_SECONDS = 3
EMBED = 5

MULAN = token_toys.CLIP
SEMANTIC = token_toys.SLOW
ACOUSTIC = token_toys.FAST


def _sums(waveform, *, rate):
  """[batch, frames]: of each frame's samples, in thousandths."""
  batch, samples = waveform.shape
  frames = -(-samples * rate // RATE_HZ)
  edges = np.arange(frames) * RATE_HZ // rate
  sums = np.add.reduceat(np.asarray(waveform, np.float64), edges, axis=1)
  return np.round(1000 * np.abs(sums)).astype(np.int64).reshape(batch, frames)


class Codec:
  """A `Codec` that does not decode."""

  def __init__(self):
    self.stream = ACOUSTIC
    self.sample_rate_hz = RATE_HZ
    self.hop_samples = RATE_HZ // 5

  def encode(self, waveform, *, sample_rate_hz, num_levels=None):
    assert sample_rate_hz == RATE_HZ
    sums = _sums(waveform, rate=5)[..., None] * np.arange(1, 5)
    return (sums % ACOUSTIC.codebook_size)[..., :num_levels]

  def decode(self, codes):
    raise NotImplementedError


class Semantic:
  """A `SemanticTokenizer`."""

  stream = SEMANTIC
  sample_rate_hz = RATE_HZ

  def encode(self, waveform, *, sample_rate_hz):
    assert sample_rate_hz == RATE_HZ
    return _sums(waveform, rate=2) % SEMANTIC.codebook_size


class Conditioner:
  """A `Conditioner` whose embeddings are bands of the window's samples."""

  stream = MULAN
  sample_rate_hz = RATE_HZ
  embed_dim = EMBED

  def embed_windows(self, waveform, *, sample_rate_hz):
    assert sample_rate_hz == RATE_HZ
    size = WINDOW_SECONDS * RATE_HZ
    starts = range(0, max(1, len(waveform) - size + 1), RATE_HZ)
    return np.stack([self._embed(waveform[s : s + size]) for s in starts])

  def embed_audio(self, waveform, *, sample_rate_hz):
    return np.stack(
      [
        base.mean_direction(
          self.embed_windows(clip, sample_rate_hz=sample_rate_hz)
        )
        for clip in waveform
      ]
    )

  def embed_text(self, texts):
    raise NotImplementedError

  def quantize(self, embeddings):
    scaled = np.round(50 * (1 + embeddings[:, None, : MULAN.num_codebooks]))
    return scaled.astype(np.int64)

  def encode_audio(self, waveform, *, sample_rate_hz):
    return self.quantize(
      self.embed_audio(waveform, sample_rate_hz=sample_rate_hz)
    )

  def encode_text(self, texts):
    raise NotImplementedError

  def _embed(self, window):
    bands = [part.sum() for part in np.array_split(window, EMBED)]
    vector = np.asarray(bands, np.float32)
    return vector / np.linalg.norm(vector)
