# SPDX-License-Identifier: Apache-2.0
"""Every code of a clip: what a token corpus is written with.

MusicLM (Agostinelli et al., 2023), sections 3.1 and 3.2. A stage is trained on
crops, and each crop is conditioned on the windows that lie inside it; a crop
starts on a whole second, and so do the windows. So a clip's windows are embedded
once, and the codes of every crop are those of a mean of some of them.

Shapes: waveform [samples], codes [frames, levels], embeddings [windows, embed],
codes of a stream without a rate [seconds, windows, levels], where `windows` are
the lengths that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array
from musiclm_jax.codec.base import Codec
from musiclm_jax.conditioning import base as conditioning
from musiclm_jax.conditioning.base import Conditioner
from musiclm_jax.semantic.base import SemanticTokenizer
from musiclm_jax.streams import HasCodebooks, TokenStream


class Tokenizers:
  """A codec, a semantic tokenizer and, for MusicLM, a conditioner together.

  Attributes:
    streams: The codes that they make, in the order of the cascade.
    codebooks: What the codes stand for, by stream, where they stand for vectors.
  """

  def __init__(
    self,
    *,
    codec: Codec,
    semantic: SemanticTokenizer,
    conditioner: Conditioner | None = None,
  ):
    """Takes loaded models; without a conditioner the cascade is AudioLM's."""
    self._codec = codec
    self._semantic = semantic
    self._conditioner = conditioner
    made = (conditioner, semantic, codec)
    self.streams: tuple[TokenStream, ...] = tuple(
      tokenizer.stream for tokenizer in made if tokenizer is not None
    )
    self.codebooks = {
      tokenizer.stream.name: tokenizer.codebooks
      for tokenizer in made
      if isinstance(tokenizer, HasCodebooks)
    }
    if unpublished := [s.name for s in self.streams if s.fingerprint is None]:
      raise ValueError(
        f'The codes of {unpublished[0]!r} have no fingerprint, so nothing could'
        ' tell later which model made them; load a published bundle.'
      )

  def encode(
    self,
    waveform: Float[np.ndarray, ' samples'],
    *,
    sample_rate_hz: int,
    condition_seconds: Sequence[int],
  ) -> dict[str, Int[np.ndarray, '*axes']]:
    """The codes of one clip, by stream.

    Args:
      waveform: Of the clip, in [-1, 1].
      sample_rate_hz: Of the waveform; the codec's.
      condition_seconds: Lengths of the crops that are conditioned.

    Returns:
      [frames, levels], and [seconds, windows, levels] of the conditioner: for
      each second that has begun, the codes of the crops that start there.
    """
    acoustic = self._codec.encode(waveform[None], sample_rate_hz=sample_rate_hz)
    semantic = self._semantic.encode(
      waveform[None], sample_rate_hz=sample_rate_hz
    )
    codes = {
      self._codec.stream.name: np.asarray(acoustic)[0],
      self._semantic.stream.name: np.asarray(semantic)[0][:, None],
    }
    if self._conditioner is not None:
      codes[self._conditioner.stream.name] = self._condition(
        waveform, sample_rate_hz, condition_seconds
      )
    return codes

  def _condition(
    self,
    waveform: Float[np.ndarray, ' samples'],
    sample_rate_hz: int,
    crop_seconds: Sequence[int],
  ) -> Int[np.ndarray, 'seconds windows levels']:
    embeddings = self._conditioner.embed_windows(
      waveform, sample_rate_hz=sample_rate_hz
    )
    num_seconds = -(-len(waveform) // sample_rate_hz)
    # A clip of n whole seconds has n - w + 1 windows of w seconds.
    window_seconds = len(waveform) // sample_rate_hz - len(embeddings) + 1
    crops = np.stack(
      [
        crop_embeddings(
          embeddings, num_windows=max(1, seconds - window_seconds + 1)
        )
        for seconds in crop_seconds
      ],
      axis=1,
    )  # [windows, crop lengths, embed]
    # What starts after the last window is conditioned on the last.
    crops = crops[np.minimum(np.arange(num_seconds), len(crops) - 1)]
    codes = self._conditioner.quantize(crops.reshape(-1, crops.shape[-1]))
    return np.asarray(codes).reshape(num_seconds, len(crop_seconds), -1)


def crop_embeddings(
  embeddings: Float[Array, 'windows embed'], *, num_windows: int
) -> Float[np.ndarray, 'windows embed']:
  """The mean direction of each window and the `num_windows - 1` after it.

  Near the end of the clip there are fewer, and the mean is of those.
  """
  return np.stack(
    [
      conditioning.mean_direction(embeddings[start : start + num_windows])
      for start in range(len(embeddings))
    ]
  )
