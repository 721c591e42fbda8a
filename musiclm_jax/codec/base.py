# SPDX-License-Identifier: Apache-2.0
"""What a codec is to the rest of the package, and how one is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int

from musiclm_jax.array_types import Array, Codes, Waveform
from musiclm_jax.checkpoints import bundle
from musiclm_jax.streams import TokenStream


@runtime_checkable
class Codec(Protocol):
  """Waveform to residual codes and back.

  Attributes:
    stream: The codes it makes, with the fingerprint of its weights.
    sample_rate_hz: Rate of the waveforms it takes and gives.
    hop_samples: Samples of one frame of codes.
  """

  stream: TokenStream
  sample_rate_hz: int
  hop_samples: int

  def encode(
    self,
    waveform: Waveform,
    *,
    sample_rate_hz: int,
    num_levels: int | None = None,
  ) -> Codes:
    """Codes of the first `num_levels` levels, of all if left out.

    A last frame that is not full is filled with silence.
    """
    ...

  def decode(self, codes: Codes) -> Waveform:
    """The waveform of codes of any number of levels, whole frames long."""
    ...


@runtime_checkable
class StreamingCodec(Codec, Protocol):
  """A codec that decodes while the codes are still being made."""

  def decode_pieces(
    self, pieces: Iterable[Int[Array, 'batch _ levels']]
  ) -> Iterator[Float[Array, 'batch _']]:
    """Joined, what `decode` makes of the joined pieces."""
    ...


class CodecConfig(Protocol):
  """What the config of a bundle of kind 'codec' must offer."""

  def make_codec(
    self, weights: Mapping[str, Any], *, stream: TokenStream
  ) -> Codec:
    """The codec of these weights, whose codes are `stream`."""
    ...


def load_codec(directory: str | os.PathLike[str]) -> Codec:
  """The codec published in `directory`.

  Raises:
    ValueError: There is none, or it is damaged.
  """
  found = bundle.load(directory, kind='codec')
  return found.config.make_codec(found.weights, stream=found.stream_out)
