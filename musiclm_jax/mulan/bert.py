# SPDX-License-Identifier: Apache-2.0
"""BERT: token ids to contextual vectors.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019),
section 3. The sums of a token's, a position's and a segment's vector are
normed, then encoded, with norms after each layer. A text is one segment here.

Shapes: [batch, length] ids, [batch, length, embed] vectors; length = tokens of
a text, [CLS] first.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import axes
from musiclm_jax.array_types import Array, Tokens
from musiclm_jax.layers import parameters
from musiclm_jax.mulan import encoder

NUM_SEGMENTS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig:
  """Sizes of a BERT, apart from its vocabulary.

  Attributes:
    encoder: Sizes of the body; its norms stand after the layers.
    max_tokens: Positions it knows, the longest text.
  """

  encoder: encoder.EncoderConfig
  max_tokens: int = 512

  def __post_init__(self):
    if self.encoder.norm != 'after':
      raise ValueError(
        f"BERT's norms stand 'after' its layers, not {self.encoder.norm!r}; set"
        " the encoder's norm to 'after'."
      )


class Bert(nn.Module):
  """Embeds and encodes.

  Attributes:
    config: Sizes.
    num_ids: Tokens of the vocabulary.
  """

  config: BertConfig
  num_ids: int

  @nn.compact
  def __call__(
    self, tokens: Tokens, *, token_mask: Bool[Array, 'batch length']
  ) -> Float[Array, 'batch length embed']:
    """Vectors of each token; padding is not looked at."""
    config, body = self.config, self.config.encoder
    length = tokens.shape[1]
    if length > config.max_tokens:
      raise ValueError(
        f'A text of {length} tokens is longer than the {config.max_tokens} that'
        ' this BERT has positions for; cut the texts.'
      )
    words = self._table('words', self.num_ids, axes.VOCAB)
    positions = self._table('positions', config.max_tokens, None)
    segments = self._table('segments', NUM_SEGMENTS, None)
    embedded = jnp.take(words, jnp.asarray(tokens), axis=0)
    embedded = embedded + (positions[:length] + segments[:1])[None]
    embedded = encoder.layer_norm(body, 'norm')(embedded)
    embedded = encoder.dropped(self, embedded, body.dropout_rate)
    return encoder.Encoder(body, name='encoder')(
      embedded, valid_mask=token_mask
    )

  def _table(
    self, name: str, num_rows: int, rows_axis: str | None
  ) -> Float[Array, 'rows embed']:
    body = self.config.encoder
    table = parameters.param(
      self,
      name,
      nn.initializers.truncated_normal(stddev=0.02),  # BERT's.
      (num_rows, body.embed_dim),
      jnp.dtype(body.param_dtype),
      axes=(rows_axis, axes.EMBED),
    )
    return table.astype(body.dtype)
