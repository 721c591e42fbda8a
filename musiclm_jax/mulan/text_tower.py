# SPDX-License-Identifier: Apache-2.0
"""MuLan's text tower: BERT, its [CLS] vector, a linear map, a unit vector.

MuLan (Huang et al., 2022), section 3.1: BERT-base, uncased, 512 tokens. The
weights may be published ones (see `hugging_face`) or begin at random.

Shapes: [batch, length] ids and mask in, [batch, embed] of length one out.
"""

from __future__ import annotations

import dataclasses

from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax.array_types import Array, Tokens
from musiclm_jax.mulan import bert, projection, wordpiece


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
  """A BERT and the tokens that it reads.

  Attributes:
    bert: Sizes.
    vocabulary: What splits a text into tokens; it goes where the weights go.
  """

  bert: bert.BertConfig
  vocabulary: wordpiece.WordPiece


class TextTower(nn.Module):
  """Texts to points of the joint space.

  Attributes:
    config: Sizes and vocabulary.
    embed_dim: Of the joint space.
  """

  config: TextTowerConfig
  embed_dim: int

  @nn.compact
  def __call__(
    self, tokens: Tokens, *, token_mask: Bool[Array, 'batch length']
  ) -> Float[Array, 'batch embed']:
    config = self.config
    hidden = bert.Bert(
      config.bert, num_ids=len(config.vocabulary.tokens), name='bert'
    )(tokens, token_mask=token_mask)
    return projection.Projection(
      self.embed_dim, name='projection', **config.bert.encoder.types
    )(hidden[:, 0])
