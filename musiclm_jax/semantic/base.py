# SPDX-License-Identifier: Apache-2.0
"""What a semantic tokenizer is to the rest of the package, and how to load it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from musiclm_jax.array_types import Array
from musiclm_jax.checkpoints import bundle
from musiclm_jax.streams import TokenStream

# Kinds of bundle: the tokenizer, and what is trained before it is fitted.
TOKENIZER = 'semantic'
TRAINED = 'w2v_bert'


@runtime_checkable
class SemanticTokenizer(Protocol):
  """Waveform to one code a frame.

  Attributes:
    stream: The codes it makes, with the fingerprint of its weights.
    sample_rate_hz: That it works at; a waveform may come at any rate.
  """

  stream: TokenStream
  sample_rate_hz: int

  def encode(
    self, waveform: Array, *, sample_rate_hz: int
  ) -> Int[np.ndarray, 'batch frames']:
    """The codes of [batch, samples], or of [samples] as a batch of one.

    A last frame that is not full is filled with silence.
    """
    ...


class TokenizerConfig(Protocol):
  """What the config of a bundle of kind 'semantic' must offer."""

  def make_tokenizer(
    self, weights: Mapping[str, Any], *, stream: TokenStream
  ) -> SemanticTokenizer:
    """The tokenizer of these weights, whose codes are `stream`."""
    ...


def load_semantic(directory: str | os.PathLike[str]) -> SemanticTokenizer:
  """The tokenizer published in `directory`.

  Raises:
    ValueError: There is none, or it is damaged.
  """
  found = bundle.load(directory, kind=TOKENIZER)
  return found.config.make_tokenizer(found.weights, stream=found.stream_out)
