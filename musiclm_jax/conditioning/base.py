# SPDX-License-Identifier: Apache-2.0
"""What a conditioner is to the rest of the package, and how one is loaded.

A `JointSpace` puts audio and text beside each other; a `Conditioner` is one
whose points are codes, the prefix of a stage's row. MusicLM (Agostinelli et
al., 2023), section 3.1: the codes of audio train the stages, those of text
take their place to generate.

Shapes: waveform [samples] or [batch, samples], embeddings [.., embed], codes
[batch, 1, levels]: one frame, however long the clip.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array
from musiclm_jax.checkpoints import bundle
from musiclm_jax.streams import TokenStream

# Kinds of bundle. The towers alone are what MuLan's training publishes.
CONDITIONER = 'conditioner'
TOWERS = 'mulan'

# What a conditioner's bundle calls the towers that it was fitted on.
TRAINED_ON_TOWERS = 'mulan_towers'

Embeddings = Float[np.ndarray, 'batch embed']  # of length one


@runtime_checkable
class JointSpace(Protocol):
  """Audio and text as unit vectors whose products say how well they match.

  Attributes:
    sample_rate_hz: That it works at; a waveform may come at any rate.
    embed_dim: Of the space.
  """

  sample_rate_hz: int
  embed_dim: int

  def embed_windows(
    self, waveform: Float[Array, ' samples'], *, sample_rate_hz: int
  ) -> Float[np.ndarray, 'windows embed']:
    """One embedding for each window of a clip; at least one."""
    ...

  def embed_audio(
    self, waveform: Float[Array, 'batch samples'], *, sample_rate_hz: int
  ) -> Embeddings:
    """One embedding a clip: the mean direction of its windows."""
    ...

  def embed_text(self, texts: Sequence[str]) -> Embeddings:
    """One embedding a text."""
    ...


@runtime_checkable
class Conditioner(JointSpace, Protocol):
  """A joint space whose points are codes.

  Attributes:
    stream: The codes it makes, with the fingerprint of its weights.
  """

  stream: TokenStream

  def quantize(
    self, embeddings: Float[Array, 'batch embed']
  ) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of points of the space."""
    ...

  def encode_audio(
    self, waveform: Float[Array, 'batch samples'], *, sample_rate_hz: int
  ) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of clips: `quantize` of `embed_audio`."""
    ...

  def encode_text(
    self, texts: Sequence[str]
  ) -> Int[np.ndarray, 'batch 1 levels']:
    """The codes of texts: `quantize` of `embed_text`."""
    ...


class ConditionerConfig(Protocol):
  """What the config of a bundle of kind 'conditioner' must offer."""

  def make_conditioner(
    self, weights: Mapping[str, Any], *, stream: TokenStream
  ) -> Conditioner:
    """The conditioner of these weights, whose codes are `stream`."""
    ...


def load_conditioner(directory: str | os.PathLike[str]) -> Conditioner:
  """The conditioner published in `directory`.

  Raises:
    ValueError: There is none, or it is damaged.
  """
  found = bundle.load(directory, kind=CONDITIONER)
  return found.config.make_conditioner(found.weights, stream=found.stream_out)


def mean_direction(
  embeddings: Float[Array, '*batch windows embed'],
) -> Float[np.ndarray, '*batch embed']:
  """The mean of unit vectors, made a unit vector again.

  The paper averages the windows of a clip and does not say whether the mean is
  normalised. Ours: it is, since a text's embedding is, and both are quantized
  by one set of codebooks.
  """
  mean = np.mean(np.asarray(embeddings, np.float32), axis=-2)
  norm = np.linalg.norm(mean, axis=-1, keepdims=True)
  return mean / np.where(norm == 0, 1, norm)  # Opposite windows have no mean.
