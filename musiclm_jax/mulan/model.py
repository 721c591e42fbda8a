# SPDX-License-Identifier: Apache-2.0
"""Both towers of MuLan, and what embeds with them on a host.

MuLan (Huang et al., 2022), section 3: no weights are shared, both give unit
vectors of 128, and a trainable temperature in (0, 1] that starts at 0.1 scales
their products. Ours: the temperature is the sigmoid of what is stored.

Shapes: waveform [batch, samples], tokens [batch, length], embeddings [batch,
embed].
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax.array_types import (
  Array,
  PRNGKey,
  SampleMask,
  Tokens,
  Variables,
  Waveform,
)
from musiclm_jax.checkpoints import bundle
from musiclm_jax.layers import parameters
from musiclm_jax.mulan import audio_tower, text_tower

KIND = 'mulan'  # of the bundle

_FIRST_TEMPERATURE = 0.1
_FIRST_BIAS = -10.0  # SigLIP's (Zhai et al., 2023), section 3.1.

# Texts that are embedded at a time on a host, and the shortest they are padded
# to: one program serves all texts of a like length.
_TEXT_ROWS = 16
_SHORTEST = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class MulanConfig:
  """Two towers into one space; what a bundle of MuLan stores.

  Attributes:
    audio: Sizes of the audio tower.
    text: Sizes of the text tower, and its vocabulary.
    embed_dim: Of the joint space.
    max_tokens: Of a text; longer ones are cut.
  """

  audio: audio_tower.AudioTowerConfig
  text: text_tower.TextTowerConfig
  embed_dim: int = 128
  max_tokens: int = 512

  def __post_init__(self):
    if self.max_tokens > self.text.bert.max_tokens:
      raise ValueError(
        f'Texts of {self.max_tokens} tokens are wanted, and the text tower has'
        f' {self.text.bert.max_tokens} positions; lower max_tokens.'
      )

  @property
  def sample_rate_hz(self) -> int:
    return self.audio.mel.sample_rate_hz

  @property
  def window_samples(self) -> int:
    """Samples of one embedding."""
    return self.audio.window_samples

  def init(self, key: PRNGKey) -> Variables:
    """Fresh variables, boxed with their logical axes."""
    window = jnp.zeros((1, self.window_samples))
    return Mulan(self).init(
      key,
      window,
      jnp.ones(window.shape, bool),
      jnp.zeros((1, self.max_tokens), jnp.int32),
      jnp.ones((1, self.max_tokens), bool),
    )

  def make_towers(self, weights: Mapping[str, Any]) -> Towers:
    """What embeds with the weights of a bundle."""
    return Towers(self, weights)


class Mulan(nn.Module):
  """Both towers and the temperature.

  Attributes:
    config: Sizes.
  """

  config: MulanConfig

  def setup(self) -> None:
    config = self.config
    self.audio = audio_tower.AudioTower(config.audio, config.embed_dim)
    self.text = text_tower.TextTower(config.text, config.embed_dim)
    first = math.log(_FIRST_TEMPERATURE / (1 - _FIRST_TEMPERATURE))
    types = config.text.bert.encoder.types
    self.temperature_logit, self.logit_bias = (
      parameters.param(
        self,
        name,
        nn.initializers.constant(value),
        (),
        types['param_dtype'],
        axes=(),
      )
      for name, value in (
        ('temperature_logit', first),
        ('logit_bias', _FIRST_BIAS),
      )
    )

  def __call__(
    self,
    waveform: Waveform,
    sample_mask: SampleMask,
    tokens: Tokens,
    token_mask: Bool[Array, 'batch length'],
  ) -> tuple[Float[Array, 'batch embed'], Float[Array, 'batch embed']]:
    """Both embeddings of each pair."""
    return (
      self.embed_audio(waveform, sample_mask),
      self.embed_text(tokens, token_mask),
    )

  def embed_audio(
    self,
    waveform: Waveform,
    sample_mask: SampleMask,
    draws: Float[Array, 'batch bands 2'] | None = None,
  ) -> Float[Array, 'batch embed']:
    return self.audio(waveform, sample_mask=sample_mask, draws=draws)

  def embed_text(
    self, tokens: Tokens, token_mask: Bool[Array, 'batch length']
  ) -> Float[Array, 'batch embed']:
    return self.text(tokens, token_mask=token_mask)


def temperature(params: Mapping[str, Any]) -> Float[Array, '']:
  """τ, in (0, 1], from the parameters of `Mulan`."""
  return jax.nn.sigmoid(params['temperature_logit'])


class Towers:
  """Embeds audio and texts with fixed weights; of nothing but themselves.

  An embedding depends on its own window or text, not on what else is in the
  batch: texts are padded to a length that each alone decides.

  Attributes:
    sample_rate_hz: Of the waveforms.
    window_samples: Of each.
    embed_dim: Of the joint space.
  """

  def __init__(self, config: MulanConfig, weights: Mapping[str, Any]):
    self.sample_rate_hz = config.sample_rate_hz
    self.window_samples = config.window_samples
    self.embed_dim = config.embed_dim
    self._config = config
    self._weights = jax.tree.map(jnp.asarray, weights)
    module = Mulan(config)
    self._audio, self._text = (
      jax.jit(functools.partial(module.apply, method=method))
      for method in (Mulan.embed_audio, Mulan.embed_text)
    )

  def embed_audio(
    self,
    waveform: Float[Array, 'batch samples'],
    sample_mask: Bool[Array, 'batch samples'] | None = None,
  ) -> Float[np.ndarray, 'batch embed']:
    """One unit vector a window; one program for each number of rows.

    Args:
      waveform: `window_samples` at `sample_rate_hz`.
      sample_mask: False over padding; all are valid if left out.
    """
    if waveform.shape[1] != self.window_samples:
      raise ValueError(
        f'Windows of {waveform.shape[1]} samples; this MuLan hears'
        f' {self.window_samples} at {self.sample_rate_hz} Hz. Cut or pad them,'
        ' or use a conditioner, which takes clips of any length.'
      )
    if sample_mask is None:
      sample_mask = np.ones(waveform.shape, bool)
    return np.asarray(self._audio(self._weights, waveform, sample_mask))

  def embed_text(
    self, texts: Sequence[str]
  ) -> Float[np.ndarray, 'batch embed']:
    """One unit vector a text."""
    if blank := [n for n, text in enumerate(texts) if not text.strip()]:
      raise ValueError(f'Texts number {blank} are empty; leave them out.')
    embeddings = np.zeros((len(texts), self.embed_dim), np.float32)
    by_length = collections.defaultdict(list)
    for number, text in enumerate(texts):
      by_length[self._padded_length(text)].append(number)
    for length, numbers in by_length.items():
      for start in range(0, len(numbers), _TEXT_ROWS):
        rows = numbers[start : start + _TEXT_ROWS]
        embeddings[rows] = self._embed(
          [texts[row] for row in rows], length=length
        )
    return embeddings

  def _padded_length(self, text: str) -> int:
    """The next power of two, within what the tower takes."""
    num_tokens = len(self._config.text.vocabulary.ids(text))
    length = 2 ** math.ceil(math.log2(max(num_tokens, _SHORTEST)))
    return min(length, self._config.max_tokens)

  def _embed(
    self, texts: Sequence[str], *, length: int
  ) -> Float[np.ndarray, 'batch embed']:
    filled = [*texts, *[''] * (_TEXT_ROWS - len(texts))]
    tokens, mask = self._config.text.vocabulary(filled, num_tokens=length)
    return np.asarray(self._text(self._weights, tokens, mask))[: len(texts)]


def load_towers(directory: str | os.PathLike[str]) -> Towers:
  """The towers published in `directory`.

  Raises:
    ValueError: There are none, or they are damaged.
  """
  found = bundle.load(directory, kind=KIND)
  return found.config.make_towers(found.weights)
