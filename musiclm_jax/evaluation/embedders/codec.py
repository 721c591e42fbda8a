# SPDX-License-Identifier: Apache-2.0
"""Our codec's latents as an embedder: what the codes of a second stand for.

Of each second, the mean of the quantized latents (ours): a latent of 20 ms is
too short a sample of music, and neighbours are almost the same one. It hears
what the codec hears, so music that came out of that codec is nearer to its
reference than to an ear that did not make it.

Shapes: waveform [samples], codes [windows, frames, levels], latents [windows,
frames, embed], embeddings [windows, embed].
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax.array_types import Array, Variables
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import soundstream
from musiclm_jax.codec.base import Codec
from musiclm_jax.evaluation.embedders import base


class CodecLatents:
  """A codec's latents, second by second; an `Embedder`.

  Attributes:
    name: 'codec'.
    sample_rate_hz: Of the codec.
    dim: Of a latent.
    window_seconds: 1, or the whole frames in it.
    hop_seconds: The same.
    weights_sha256: The fingerprint of the bundle.
  """

  name = 'codec'

  def __init__(
    self, codec: Codec, module: soundstream.SoundStream, weights: Variables
  ):
    def mean(
      weights: Variables, codes: Float[Array, 'windows frames levels']
    ) -> Float[Array, 'windows dim']:
      codes = codes.astype(jnp.int32)
      return jnp.mean(module.apply(weights, codes, method='dequantize'), axis=1)

    self.sample_rate_hz = codec.sample_rate_hz
    self.dim = module.config.embed_dim
    self.weights_sha256 = codec.stream.fingerprint
    self._codec = codec
    self._frames = codec.sample_rate_hz // codec.hop_samples
    self.window_seconds = self.hop_seconds = (
      self._frames * codec.hop_samples / codec.sample_rate_hz
    )
    self._mean = base.BatchedProgram(
      mean, {name: weights[name] for name in weights}, rows_at_a_time=32
    )

  def embed(self, waveform: base.Clip) -> base.Frames:
    """The mean of the latents of each second."""
    window = self._frames * self._codec.hop_samples
    if 0 < waveform.size < window:
      waveform = np.resize(waveform, window)
    codes = self._codec.encode(
      waveform[None], sample_rate_hz=self.sample_rate_hz
    )
    codes = np.asarray(jax.device_get(codes))[0]
    whole = waveform.size // window
    codes = codes[: whole * self._frames]
    return self._mean(codes.reshape(whole, self._frames, -1))


def load(directory: str | os.PathLike[str]) -> CodecLatents:
  """The latents of a SoundStream bundle."""
  found = bundle.load(directory, kind='codec')
  if not isinstance(found.config, soundstream.SoundStreamConfig):
    raise ValueError(
      f'{directory} holds a codec of {type(found.config).__name__}, whose'
      ' latents are not known; give a SoundStream.'
    )
  return CodecLatents(
    found.config.make_codec(found.weights, stream=found.stream_out),
    soundstream.SoundStream(found.config),
    found.weights,
  )
