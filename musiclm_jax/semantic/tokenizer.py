# SPDX-License-Identifier: Apache-2.0
"""Waveform to semantic codes: w2v-BERT, a scaler and the nearest centroid.

MusicLM (Agostinelli et al., 2023), section 4.1, after AudioLM (Borsos et al.,
2022), section III-B: activations of the 7th block of the MLM module, each
dimension brought to mean 0 and variance 1, k-means with 1,024 clusters.

Ours: audio is read in windows of 30 s, and of each the 5 s next to another
window are dropped. Lengths are filled up to whole buckets, rows to powers of
two, so that a few programs serve every clip; within one program the codes of a
clip depend on nothing but the clip.

Shapes: waveform [batch, samples], features [batch, frames, embed], codes
[batch, frames].
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array, Latents, SampleMask, Waveform
from musiclm_jax.audio import checks, framing, resample
from musiclm_jax.metrics import accumulation_dtype
from musiclm_jax.quantization import kmeans
from musiclm_jax.quantization.standardization import Scaler
from musiclm_jax.semantic import base, w2v_bert
from musiclm_jax.streams import TokenStream

STREAM = 'semantic'

# Collections of the bundle.
PARAMS = 'params'  # of w2v-BERT, those alone that are read
SCALER = 'scaler'
CENTROIDS = 'centroids'

# Windows that are read at once, at most.
_MAX_ROWS = 8

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticTokenizerConfig:
  """A tokenizer that was fitted to a trained model.

  Attributes:
    model: The w2v-BERT that it reads.
    num_mlm_blocks: After how many blocks of the second stack.
    num_clusters: Codes.
    window_seconds: Of audio that is read at once.
    margin_seconds: Dropped of a window next to another one.
    bucket_seconds: What lengths are filled up to a multiple of.
  """

  model: w2v_bert.W2vBertConfig
  num_mlm_blocks: int = 7
  num_clusters: int = 1024
  window_seconds: int = 30
  margin_seconds: int = 5
  bucket_seconds: int = 5

  def __post_init__(self):
    most = self.model.num_mlm_blocks
    if not 0 <= self.num_mlm_blocks <= most:
      raise ValueError(
        f'Block {self.num_mlm_blocks} of the MLM stack is wanted, which has'
        f' {most}; lower num_mlm_blocks.'
      )
    if not 0 <= 2 * self.margin_seconds < self.window_seconds:
      raise ValueError(
        f'Of a window of {self.window_seconds} s with {self.margin_seconds} s'
        ' dropped at each inner edge nothing is left; drop less.'
      )
    if self.window_seconds % self.bucket_seconds:
      raise ValueError(
        f'A window of {self.window_seconds} s is not whole buckets of'
        f' {self.bucket_seconds} s.'
      )

  @property
  def stream(self) -> TokenStream:
    return TokenStream(
      name=STREAM,
      rate_hz=f'{self.model.sample_rate_hz}/{self.model.hop_samples}',
      num_codebooks=1,
      codebook_size=self.num_clusters,
    )

  @property
  def window_frames(self) -> int:
    return self.stream.num_frames(self.window_seconds)

  @property
  def margin_frames(self) -> int:
    return self.stream.num_frames(self.margin_seconds)

  @property
  def bucket_frames(self) -> int:
    return self.stream.num_frames(self.bucket_seconds)

  def features(
    self, params: Any, waveform: Waveform, *, sample_mask: SampleMask
  ) -> Latents:
    """Activations, at least float32, not yet scaled; 0 over padding."""
    hidden = w2v_bert.W2vBert(self.model).apply(
      {PARAMS: params},
      waveform,
      sample_mask=sample_mask,
      num_mlm_blocks=self.num_mlm_blocks,
      method='features',
    )
    return hidden.astype(accumulation_dtype(hidden.dtype))

  def needed(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """Those parameters that `features` reads."""
    samples = self.model.hop_samples
    read = jax.eval_shape(
      functools.partial(
        w2v_bert.W2vBert(self.model).init,
        num_mlm_blocks=self.num_mlm_blocks,
        method='features',
      ),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, samples), jnp.float32),
      sample_mask=jax.ShapeDtypeStruct((1, samples), bool),
    )
    return _select(params, read[PARAMS])

  def make_tokenizer(
    self, weights: Weights, *, stream: TokenStream
  ) -> SemanticTokenizer:
    return SemanticTokenizer(self, weights, stream=stream)


class SemanticTokenizer:
  """A fitted tokenizer; see `base.SemanticTokenizer`.

  Attributes:
    stream: The codes it makes.
    sample_rate_hz: That it works at.
    hop_samples: Of one frame, at that rate.
    codebooks: The centroids, [1, clusters, embed].
    config: What it was made from.
  """

  def __init__(
    self,
    config: SemanticTokenizerConfig,
    weights: Weights,
    *,
    stream: TokenStream,
  ):
    self.config = config
    self.stream = stream
    self.sample_rate_hz = config.model.sample_rate_hz
    self.hop_samples = config.model.hop_samples
    wanted = (config.num_clusters, config.model.embed_dim)
    found = np.shape(weights[CENTROIDS])
    if found != wanted or np.shape(weights[SCALER]['mean']) != wanted[1:]:
      raise ValueError(
        f'The centroids are {list(found)}, but this model takes'
        f' {list(wanted)}: they were fitted to another one. Fit them again'
        ' with `musiclm fit semantic`.'
      )
    self.codebooks = np.asarray(weights[CENTROIDS], np.float32)[None]
    self._weights = jax.device_put(dict(weights))
    self._features = jax.jit(functools.partial(_scaled_features, config))
    self._codes = jax.jit(functools.partial(_codes, config))

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> SemanticTokenizer:
    """The tokenizer published in `directory`."""
    return base.load_semantic(directory)

  def encode(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> Int[np.ndarray, 'batch frames']:
    """Codes of whole clips.

    Args:
      waveform: [batch, samples], or [samples] as a batch of one, of floats in
        [-1, 1], checked. The last frame is filled with silence.
      sample_rate_hz: Its rate; resampled if it is not the model's.

    Returns:
      One code a frame, on the host.
    """
    return self._run(self._codes, waveform, sample_rate_hz)

  def features(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> Float[np.ndarray, 'batch frames embed']:
    """What the codes are made of: scaled activations, frame by frame."""
    return self._run(self._features, waveform, sample_rate_hz)

  def _run(
    self, program: Callable[..., jax.Array], waveform: Any, sample_rate_hz: int
  ) -> np.ndarray:
    clips = self._prepared(waveform, sample_rate_hz)
    num_frames = -(-clips.shape[1] // self.hop_samples)
    windows = framing.covering_windows(
      num_frames,
      window_frames=self.config.window_frames,
      margin_frames=self.config.margin_frames,
    )
    # All windows have one length: that of the clip, or the longest.
    frames = windows[0].stop - windows[0].start
    hop = self.hop_samples
    rows = np.concatenate(
      [
        _cut(clips, start=window.start * hop, num_samples=frames * hop)
        for window in windows
      ]
    )  # [windows × batch, samples]
    # Of the last frame, what lies beyond the clip is silence and not padding:
    # else it would depend on the window.
    made = self._in_parts(program, rows)[:, :frames]
    made = made.reshape(len(windows), len(clips), *made.shape[1:])
    kept = [part[:, window.kept] for part, window in zip(made, windows)]
    return np.concatenate(kept, axis=1)

  def _in_parts(
    self, program: Callable[..., jax.Array], rows: np.ndarray
  ) -> np.ndarray:
    """Runs rows of one length a few at a time, each in a bucket."""
    bucket = self.config.bucket_frames * self.hop_samples
    length = -(-rows.shape[1] // bucket) * bucket
    parts = []
    for start in range(0, len(rows), _MAX_ROWS):
      part = rows[start : start + _MAX_ROWS]
      num_rows = 1 << (len(part) - 1).bit_length()
      padded = np.zeros((num_rows, length), np.float32)
      padded[:, : rows.shape[1]] = part[-1]  # What fills up is a clip as well.
      padded[: len(part), : rows.shape[1]] = part
      mask = np.broadcast_to(np.arange(length) < rows.shape[1], padded.shape)
      made = program(self._weights, padded, mask)
      parts.append(np.asarray(made)[: len(part)])
    return np.concatenate(parts)

  def _prepared(
    self, waveform: Any, sample_rate_hz: int
  ) -> Float[np.ndarray, 'batch samples']:
    rate_hz = checks.require_rate(sample_rate_hz)
    is_single = np.ndim(waveform) == 1
    clips = checks.require_waveform(
      waveform, axes='samples' if is_single else 'batch, samples'
    )
    clips = clips[None] if is_single else clips
    clips = np.stack(
      [
        resample.resample(clip, from_hz=rate_hz, to_hz=self.sample_rate_hz)
        for clip in clips.astype(np.float32)
      ]
    )
    if clips.shape[1] < self.hop_samples:
      raise ValueError(
        f'{clips.shape[1]} samples at {self.sample_rate_hz} Hz are less than'
        f' one frame of {self.hop_samples}; give at least'
        f' {1 / float(self.stream.rate_hz):g} s of audio.'
      )
    return clips


def _scaled_features(
  config: SemanticTokenizerConfig,
  weights: Weights,
  waveform: Waveform,
  sample_mask: SampleMask,
) -> Latents:
  hidden = config.features(weights[PARAMS], waveform, sample_mask=sample_mask)
  return Scaler(**weights[SCALER])(hidden)


def _codes(
  config: SemanticTokenizerConfig,
  weights: Weights,
  waveform: Waveform,
  sample_mask: SampleMask,
) -> Int[Array, 'batch frames']:
  scaled = _scaled_features(config, weights, waveform, sample_mask)
  batch, frames, embed = scaled.shape
  codes, _ = kmeans.nearest(scaled.reshape(-1, embed), weights[CENTROIDS])
  return codes.reshape(batch, frames)


def _cut(
  clips: Float[np.ndarray, 'batch samples'], *, start: int, num_samples: int
) -> Float[np.ndarray, 'batch window']:
  """Samples of every clip, silence past its end."""
  part = clips[:, start : start + num_samples]
  return np.pad(part, ((0, 0), (0, num_samples - part.shape[1])))


def _select(tree: Mapping[str, Any], wanted: Mapping[str, Any]) -> Any:
  """The branches of `tree` that `wanted` has as well."""
  return {
    name: _select(tree[name], below)
    if isinstance(below, Mapping)
    else tree[name]
    for name, below in wanted.items()
  }
