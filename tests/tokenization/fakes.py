# SPDX-License-Identifier: Apache-2.0
"""Tokenizers without weights whose codes follow from the samples they cover.

`publish` leaves them as bundles, which the verbs load.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from musiclm_jax.checkpoints import bundle
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

  def __init__(self, stream=ACOUSTIC):
    self.stream = stream
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

  def __init__(self, stream=SEMANTIC):
    self.stream = stream
    self.sample_rate_hz = RATE_HZ
    self.codebooks = token_toys.CODEBOOKS['semantic']

  def encode(self, waveform, *, sample_rate_hz):
    assert sample_rate_hz == RATE_HZ
    return _sums(waveform, rate=2) % SEMANTIC.codebook_size


class Conditioner:
  """A `Conditioner` whose embeddings are bands of the window's samples."""

  def __init__(self, stream=MULAN):
    self.stream = stream
    self.sample_rate_hz = RATE_HZ
    self.embed_dim = EMBED

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Of any of them.

  Attributes:
    kind: Of its bundle.
    version: Another one has another fingerprint.
  """

  kind: str
  version: int = 0

  def make_codec(self, weights, *, stream):
    return Codec(stream)

  def make_tokenizer(self, weights, *, stream):
    return Semantic(stream)

  def make_conditioner(self, weights, *, stream):
    return Conditioner(stream)


def publish(directory: pathlib.Path, *, version: int = 0) -> dict[str, str]:
  """Publishes all three; the fingerprint of each by its stream's name."""
  streams = {'codec': ACOUSTIC, 'semantic': SEMANTIC, 'conditioner': MULAN}
  return {
    stream.name: bundle.publish(
      directory / kind,
      bundle.BundleContents(
        kind=kind,
        config=Config(kind=kind, version=version),
        weights={'unused': np.zeros(1, np.float32)},
        stream_out=stream,
      ),
    )
    for kind, stream in streams.items()
  }
