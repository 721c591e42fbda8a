# SPDX-License-Identifier: Apache-2.0
"""Ways to describe audio frame by frame, for comparison with each other.

Log-mel, the network with random weights, the trained network, and its tokens;
as controls of these, tokens of the first two, made by the same k-means.

Shapes: waveform [batch, samples], frames [batch, frames, dim] or, of tokens,
[batch, frames].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from flax.core import meta
from jaxtyping import Float, Int

from musiclm_jax.audio import resample, spectral
from musiclm_jax.evaluation import abx
from musiclm_jax.quantization import kmeans, scaled_kmeans
from musiclm_jax.quantization import streamed_kmeans as streamed
from musiclm_jax.semantic import tokenizer, w2v_bert
from musiclm_jax.semantic.tokenizer import SemanticTokenizer

LOG_MEL = 'log-mel'
UNTRAINED = 'untrained network'
TRAINED = 'trained network'
TOKENS = 'tokens'

# What the others are compared with.
BASELINES = (LOG_MEL, UNTRAINED)

# Of a pass of k-means, so that its table of distances stays small.
_POINTS_AT_A_TIME = 8192


# (waveform, sample_rate_hz=…) to frames; all of its arrays have a batch.
Listen = Callable[..., np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
  """One way to describe audio.

  Attributes:
    name: Of the row in the tables.
    listen: Waveform to frames. Views may share it: then it runs once.
    read: These frames, of one clip, to those of the view.
    pool: The frames of one clip to one vector.
    distance: Of the frames of two clips, each to each.
  """

  name: str
  listen: Listen
  pool: Callable[[np.ndarray], Float[np.ndarray, ' dim']]
  distance: abx.FrameDistance
  read: Callable[[np.ndarray], np.ndarray] = np.asarray


def frames_of(
  views: Iterable[View],
  waveform: Float[np.ndarray, ' samples'],
  *,
  sample_rate_hz: int,
) -> dict[str, np.ndarray]:
  """The frames of one clip in every view, by name."""
  heard, frames = {}, {}
  for view in views:
    if view.listen not in heard:
      made = view.listen(waveform[None], sample_rate_hz=sample_rate_hz)
      heard[view.listen] = np.asarray(made)[0]
    frames[view.name] = view.read(heard[view.listen])
  return frames


def views(
  model: SemanticTokenizer,
  *,
  waveforms: Callable[[], Iterable[np.ndarray]],
  sample_rate_hz: int,
  seed: int = 0,
) -> tuple[View, ...]:
  """Log-mel, the network before training and after it, and tokens of each.

  Args:
    model: A fitted tokenizer.
    waveforms: Gives crops of training pieces, [samples], that the controls are
      fitted to; called once for each.
    sample_rate_hz: Of these.
    seed: Of the random weights and of the controls' centroids.
  """
  baselines = (
    _continuous(LOG_MEL, log_mel_of(model)),
    _continuous(UNTRAINED, untrained(model, seed=seed).features),
  )
  size = model.stream.codebook_size
  controls = (
    _discrete(
      f'{TOKENS} of {view.name}',
      view.listen,
      size=size,
      read=clustered(
        view.listen,
        waveforms=waveforms,
        sample_rate_hz=sample_rate_hz,
        num_clusters=size,
        seed=seed,
      ),
    )
    for view in baselines
  )
  return (
    *baselines,
    _continuous(TRAINED, model.features),
    *controls,
    _discrete(TOKENS, model.encode, size=size),
  )


def _continuous(name: str, listen: Listen) -> View:
  return View(
    name=name,
    listen=listen,
    pool=lambda frames: frames.mean(axis=0),
    distance=abx.cosine_distance,
  )


def _discrete(name: str, listen: Listen, *, size: int, **read: Any) -> View:
  return View(
    name=name,
    listen=listen,
    pool=functools.partial(_shares, size=size),
    distance=abx.token_distance,
    **read,
  )


def clustered(
  listen: Listen,
  *,
  waveforms: Callable[[], Iterable[np.ndarray]],
  sample_rate_hz: int,
  num_clusters: int,
  seed: int,
) -> Callable[[np.ndarray], np.ndarray]:
  """Frames to tokens: scaled, then k-means over the frames of `waveforms`."""
  points = np.concatenate(
    [listen(row[None], sample_rate_hz=sample_rate_hz)[0] for row in waveforms()]
  )
  blocks = [
    streamed.Block(part, np.ones(len(part), bool))
    for part in np.array_split(
      points.astype(np.float32), -(-len(points) // _POINTS_AT_A_TIME)
    )
  ]
  scaler, clusters = scaled_kmeans.fit(
    lambda: blocks,
    start=streamed.Start(num_clusters=num_clusters),
    clustering=streamed.Lloyd(),
    key=jax.random.key(seed),
  )
  nearest = jax.jit(kmeans.nearest)

  def tokens(frames: np.ndarray) -> np.ndarray:
    return np.asarray(nearest(scaler(frames), clusters.centroids)[0])

  return tokens


def log_mel_of(model: SemanticTokenizer) -> Listen:
  """The log-mel that the network reads, averaged to its frame rate."""
  config = model.config.model.subsampling.mel
  hops = model.hop_samples // config.hop_samples
  bucket = model.config.bucket_frames * model.hop_samples
  compute = jax.jit(functools.partial(spectral.log_mel, config=config))

  def frames(
    waveform: Float[np.ndarray, 'batch samples'], *, sample_rate_hz: int
  ) -> Float[np.ndarray, 'batch frames mels']:
    rate_hz = {'from_hz': sample_rate_hz, 'to_hz': model.sample_rate_hz}
    rows = np.stack([resample.resample(row, **rate_hz) for row in waveform])
    batch, num_samples = rows.shape
    missing = -num_samples % bucket  # A few programs for all lengths.
    mels = np.asarray(compute(np.pad(rows, ((0, 0), (0, missing)))))
    means = mels.reshape(batch, -1, hops, mels.shape[-1]).mean(axis=2)
    return means[:, : -(-num_samples // model.hop_samples)]

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
