# SPDX-License-Identifier: Apache-2.0
"""MuLan as a conditioner: windows of a clip, or a text, to one frame of codes.

MusicLM (Agostinelli et al., 2023), section 3.1: windows of 10 s with a hop of
1 s are embedded by the frozen audio tower and averaged; 12 residual codebooks
of 1,024 codes, fitted to audio, make 12 codes of the mean. A text's embedding
goes through the same codebooks.

A clip shorter than a window is one window, silent and masked after its end
(ours). Samples after the last whole window of a longer clip are in none.

Shapes: waveform [samples], embeddings [.., embed], codes [batch, 1, levels].
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from musiclm_jax.array_types import Array
from musiclm_jax.audio import checks, framing, resample
from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import base
from musiclm_jax.quantization import residual
from musiclm_jax.streams import TokenStream

# The collections of a conditioner's bundle, one for each of its two parts.
TOWERS = 'towers'
QUANTIZER = 'quantizer'

# One compiled program serves every number of windows, and of points: a result
# then cannot depend on how many were asked for at a time.
_WINDOWS_AT_A_TIME = 8
_POINTS_AT_A_TIME = 64


@runtime_checkable
class Towers(Protocol):
  """Both towers with their weights; `musiclm_jax.mulan` makes them.

  Attributes:
    sample_rate_hz: Of the windows.
    window_samples: Of each.
    embed_dim: Of the joint space.
  """

  sample_rate_hz: int
  window_samples: int
  embed_dim: int

  def embed_audio(
    self,
    waveform: Float[Array, 'batch samples'],
    *,
    sample_mask: Bool[Array, 'batch samples'],
  ) -> base.Embeddings:
    """Of windows of `window_samples`."""
    ...

  def embed_text(self, texts: Sequence[str]) -> base.Embeddings: ...


class TowersConfig(Protocol):
  """What the config of a bundle of kind 'mulan' must offer."""

  embed_dim: int

  def make_towers(self, weights: Mapping[str, Any]) -> Towers:
    """The towers of these weights."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class MuLanConditionerConfig:
  """A trained pair of towers and the codebooks of their space.

  Attributes:
    towers: The config of the towers, vocabulary included.
    quantizer: Sizes of the codebooks.
    hop_seconds: From one window of a clip to the next.
  """

  towers: Any
  quantizer: residual.ResidualQuantizerConfig
  hop_seconds: int = 1

  @property
  def stream(self) -> TokenStream:
    return TokenStream(
      name='mulan',
      rate_hz=None,
      num_codebooks=self.quantizer.num_levels,
      codebook_size=self.quantizer.codebook_size,
    )

  def make_conditioner(
    self, weights: Mapping[str, Any], *, stream: TokenStream
  ) -> MuLanConditioner:
    return MuLanConditioner(self, weights, stream=stream)


class MuLanSpace:
  """MuLan's joint space for clips of any length and rate; a `JointSpace`.

  Attributes:
    sample_rate_hz: That the towers work at.
    window_seconds: Of each window.
    embed_dim: Of the space.
  """

  def __init__(self, towers: Towers, *, hop_seconds: int = 1):
    self.sample_rate_hz = towers.sample_rate_hz
    self.window_seconds = towers.window_samples // towers.sample_rate_hz
    self.embed_dim = towers.embed_dim
    self._towers = towers
    self._hop_seconds = hop_seconds

  def embed_windows(
    self,
    waveform: Array,
    *,
    sample_rate_hz: int,
    hop_seconds: int | None = None,
  ) -> Float[np.ndarray, 'windows embed']:
    """One embedding for each window of a clip; at least one.

    Args:
      waveform: [samples] of floats in [-1, 1], checked.
      sample_rate_hz: Its rate.
      hop_seconds: From one window to the next; the config's if left out.
    """
    waveform = self._prepared(
      checks.require_waveform(waveform, axes='samples'), sample_rate_hz
    )
    return self._embed(self._windows(waveform, hop_seconds=hop_seconds))

  def embed_audio(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> base.Embeddings:
    """The mean direction of the windows of each clip.

    Args:
      waveform: [batch, samples] of floats in [-1, 1], checked.
      sample_rate_hz: Its rate.
    """
    waveform = checks.require_waveform(waveform, axes='batch, samples')
    clips = [self._prepared(clip, sample_rate_hz) for clip in waveform]
    embeddings = self._embed(
      window for clip in clips for window in self._windows(clip)
    )
    embeddings = embeddings.reshape(len(clips), -1, self.embed_dim)
    return base.mean_direction(embeddings)

  def embed_text(self, texts: Sequence[str]) -> base.Embeddings:
    """One embedding a text."""
    if isinstance(texts, str) or not texts:
      raise ValueError(
        f'A list of at least one text is wanted, not {texts!r}; put a single'
        ' text into brackets.'
      )
    return np.asarray(self._towers.embed_text(list(texts)), np.float32)

  def _prepared(
    self, waveform: Float[np.ndarray, ' samples'], sample_rate_hz: int
  ) -> Float[np.ndarray, ' resampled']:
    return resample.resample(
      np.asarray(waveform, np.float32),
      from_hz=sample_rate_hz,
      to_hz=self.sample_rate_hz,
    )

  def _windows(
    self,
    waveform: Float[np.ndarray, ' samples'],
    *,
    hop_seconds: int | None = None,
  ) -> Iterator[Float[np.ndarray, ' window']]:
    """Views of the windows; one short one if there is no whole one."""
    if hop_seconds is None:
      hop_seconds = self._hop_seconds
    windows = framing.sliding_windows(
      len(waveform),
      window_frames=self._towers.window_samples,
      hop_frames=hop_seconds * self.sample_rate_hz,
    )
    for window in windows:
      yield waveform[window.start : window.stop]
    if not windows:
      yield waveform

  def _embed(
    self, windows: Iterable[Float[np.ndarray, ' window']]
  ) -> Float[np.ndarray, 'windows embed']:
    """Embeds windows by full batches, the last filled with silence."""
    shape = (_WINDOWS_AT_A_TIME, self._towers.window_samples)
    parts, waiting = [], iter(windows)
    while rows := list(itertools.islice(waiting, shape[0])):
      waveform, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
      for place, row in enumerate(rows):
        waveform[place, : len(row)] = row
        mask[place, : len(row)] = True
      embedded = self._towers.embed_audio(waveform, sample_mask=mask)
      parts.append(np.asarray(embedded, np.float32)[: len(rows)])
    return np.concatenate(parts)


class MuLanConditioner:
  """A joint space and its codebooks; a `Conditioner`.

  Attributes:
    stream: The codes it makes.
    sample_rate_hz: That the towers work at.
    window_seconds: Of each window.
    embed_dim: Of the joint space.
    codebooks: Of its codes, [levels, codes, embed].
  """

  def __init__(
    self,
    config: MuLanConditionerConfig,
    weights: Mapping[str, Any],
    *,
    stream: TokenStream,
  ):
    self.stream = stream
    self._space = MuLanSpace(
      config.towers.make_towers(weights[TOWERS]),
      hop_seconds=config.hop_seconds,
    )
    self.sample_rate_hz = self._space.sample_rate_hz
    self.window_seconds = self._space.window_seconds
    self.embed_dim = self._space.embed_dim
    module = residual.ResidualQuantizer(
      config.quantizer, embed_dim=self.embed_dim
    )
    variables = jax.device_put(dict(weights[QUANTIZER]))
    self.codebooks = np.asarray(
      variables['codebooks']['embeddings'], np.float32
    )
    self._encode = _in_parts(module, variables, method='encode')
    self._decode = _in_parts(module, variables, method='decode')

  def embed_windows(
    self,
    waveform: Array,
    *,
    sample_rate_hz: int,
    hop_seconds: int | None = None,
  ) -> Float[np.ndarray, 'windows embed']:
    """One embedding for each window of a clip; see `MuLanSpace`."""
    return self._space.embed_windows(
      waveform, sample_rate_hz=sample_rate_hz, hop_seconds=hop_seconds
    )

  def embed_audio(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> base.Embeddings:
    """The mean direction of the windows of each clip."""
    return self._space.embed_audio(waveform, sample_rate_hz=sample_rate_hz)

  def embed_text(self, texts: Sequence[str]) -> base.Embeddings:
    """One embedding a text."""
    return self._space.embed_text(texts)

  def quantize(self, embeddings: Array) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of points of the space, [batch, embed]."""
    embeddings = np.asarray(embeddings, np.float32)
    if embeddings.ndim != 2 or embeddings.shape[1] != self.embed_dim:
      raise ValueError(
        f'Embeddings are [batch, {self.embed_dim}], not'
        f' {list(embeddings.shape)}.'
      )
    return self._encode(embeddings[:, None])

  def dequantize(self, codes: Int[Array, 'batch 1 levels']) -> base.Embeddings:
    """The unit vectors that codes of any number of levels stand for."""
    return base.mean_direction(self._decode(np.asarray(codes, np.int32)))

  def encode_audio(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of clips."""
    return self.quantize(
      self.embed_audio(waveform, sample_rate_hz=sample_rate_hz)
    )

  def encode_text(
    self, texts: Sequence[str]
  ) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of texts."""
    return self.quantize(self.embed_text(texts))


def load_space(
  directory: str | os.PathLike[str],
) -> MuLanSpace | MuLanConditioner:
  """The joint space of a bundle of towers, or of a conditioner.

  Raises:
    ValueError: There is neither in `directory`, or it is damaged.
  """
  kind = bundle.read_model_json(directory)['kind']
  if kind == base.TOWERS:
    found = bundle.load(directory, kind=kind)
    return MuLanSpace(found.config.make_towers(found.weights))
  if kind == base.CONDITIONER:
    return base.load_conditioner(directory)
  raise ValueError(
    f'{directory} holds a {kind!r}; a bundle of kind {base.TOWERS!r} or'
    f' {base.CONDITIONER!r} is wanted.'
  )


def _in_parts(
  module: residual.ResidualQuantizer,
  variables: Mapping[str, Any],
  *,
  method: str,
) -> Any:
  """`method` of the quantizer over any number of rows, in equal parts."""

  @jax.jit
  def run(variables: Mapping[str, Any], rows: jax.Array) -> jax.Array:
    return module.apply(variables, rows, method=method)

  def run_all(rows: np.ndarray) -> np.ndarray:
    done = []
    for start in range(0, len(rows), _POINTS_AT_A_TIME):
      part = rows[start : start + _POINTS_AT_A_TIME]
      missing = [(0, _POINTS_AT_A_TIME - len(part))]
      padded = np.pad(part, missing + [(0, 0)] * (rows.ndim - 1))
      done.append(np.asarray(run(variables, padded))[: len(part)])
    return np.concatenate(done)

  return run_all
