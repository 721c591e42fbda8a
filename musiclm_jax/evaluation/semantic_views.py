# SPDX-License-Identifier: Apache-2.0
"""Ways to describe audio frame by frame, for comparison with each other.

Log-mel, the network with random weights, the trained network, and its tokens.

Shapes: waveform [batch, samples], frames [batch, frames, dim] or, of tokens,
[batch, frames].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from flax.core import meta
from jaxtyping import Float, Int

from musiclm_jax.audio import resample, spectral
from musiclm_jax.evaluation import abx
from musiclm_jax.semantic import tokenizer, w2v_bert
from musiclm_jax.semantic.tokenizer import SemanticTokenizer

LOG_MEL = 'log-mel'
UNTRAINED = 'untrained network'
TRAINED = 'trained network'
TOKENS = 'tokens'

# What the others are compared with.
BASELINES = (LOG_MEL, UNTRAINED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
  """One way to describe audio.

  Attributes:
    name: Of the row in the tables.
    frames: (waveform, sample_rate_hz=…) to its frames.
    pool: The frames of one clip to one vector.
    distance: Of the frames of two clips, each to each.
  """

  name: str
  frames: Callable[..., np.ndarray]
  pool: Callable[[np.ndarray], Float[np.ndarray, ' dim']]
  distance: abx.FrameDistance


def views(model: SemanticTokenizer, *, seed: int = 0) -> tuple[View, ...]:
  """Log-mel, the network before training, after it, and its tokens."""

  def continuous(name: str, frames: Callable[..., np.ndarray]) -> View:
    return View(
      name=name,
      frames=frames,
      pool=lambda frames: frames.mean(axis=0),
      distance=abx.cosine_distance,
    )

  return (
    continuous(LOG_MEL, log_mel_of(model)),
    continuous(UNTRAINED, untrained(model, seed=seed).features),
    continuous(TRAINED, model.features),
    View(
      name=TOKENS,
      frames=model.encode,
      pool=functools.partial(_shares, size=model.stream.codebook_size),
      distance=abx.token_distance,
    ),
  )


def log_mel_of(model: SemanticTokenizer) -> Callable[..., np.ndarray]:
  """The log-mel that the network reads, averaged to its frame rate."""
  config = model.config.model.subsampling.mel
  hops = model.hop_samples // config.hop_samples
  compute = jax.jit(functools.partial(spectral.log_mel, config=config))

  def frames(
    waveform: Float[np.ndarray, 'batch samples'], *, sample_rate_hz: int
  ) -> Float[np.ndarray, 'batch frames mels']:
    rate_hz = {'from_hz': sample_rate_hz, 'to_hz': model.sample_rate_hz}
    rows = np.stack([resample.resample(row, **rate_hz) for row in waveform])
    mels = np.asarray(compute(rows))
    batch, num_mels = mels.shape[0], mels.shape[-1]
    whole = mels[:, : mels.shape[1] // hops * hops]
    return whole.reshape(batch, -1, hops, num_mels).mean(axis=2)

  return frames


def untrained(model: SemanticTokenizer, *, seed: int) -> SemanticTokenizer:
  """The same network with random weights, as training begins with."""
  config = model.config
  samples = config.model.hop_samples
  init = functools.partial(
    w2v_bert.W2vBert(config.model).init,
    num_mlm_blocks=config.num_mlm_blocks,
    method='features',
  )
  variables = jax.jit(init)(
    jax.random.key(seed),
    np.zeros((1, samples), np.float32),
    sample_mask=np.ones((1, samples), bool),
  )
  dim = config.model.embed_dim
  return SemanticTokenizer(
    config,
    {
      tokenizer.PARAMS: meta.unbox(variables)['params'],
      tokenizer.SCALER: {
        'mean': np.zeros(dim, np.float32),
        'deviation': np.ones(dim, np.float32),
      },
      tokenizer.CENTROIDS: np.zeros((config.num_clusters, dim), np.float32),
    },
    stream=model.stream,
  )


def _shares(
  codes: Int[np.ndarray, ' frames'], *, size: int
) -> Float[np.ndarray, ' dim']:
  """How often each code occurs."""
  return np.bincount(codes, minlength=size) / codes.size
