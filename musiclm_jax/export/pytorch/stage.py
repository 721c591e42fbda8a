# SPDX-License-Identifier: Apache-2.0
"""The language model of a stage: rows of a layout to logits of its output.

MusicLM (Agostinelli et al., 2023), section 4.2: a decoder-only Transformer with
T5's relative bias. Its input table has the special ids besides the codes; its
logits have not, since no special id is ever made.

Shapes: tokens [batch, length]; codes = codebook size of the output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import configuration
from .layout import StageLayout
from .transformer import Transformer


class StageLM(nn.Module):
  """Tables around a Transformer.

  Attributes:
    layout: The rows that it reads.
  """

  def __init__(self, config: configuration.Config):
    """Makes untrained weights.

    Args:
      config: A stage and sizes: `config` of a stage's `config.json`.
    """
    super().__init__()
    self.layout = StageLayout(config.spec)
    width = config.transformer.embed_dim
    self.inputs = nn.Embedding(self.layout.num_ids, width)
    self.transformer = Transformer(config.transformer, layout=self.layout)
    self.logits = nn.Linear(width, self.layout.vocabulary_size, bias=False)
    output = self.layout.output
    first_ids = torch.tensor(output.first_ids)[:, None]
    self.register_buffer(
      'legal_ids',  # [levels, codes]
      first_ids + torch.arange(output.stream.codebook_size),
      persistent=False,
    )

  @classmethod
  def from_pretrained(
    cls,
    folder: configuration.Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
  ) -> StageLM:
    """The stage that was exported to `folder`."""
    model = cls(configuration.read_config(folder, kind='stage').config)
    configuration.load_weights(model, folder, device=device, dtype=dtype)
    return model

  def forward(self, tokens: Tensor) -> Tensor:
    """Logits of the output, each over the codes of its own level alone.

    Returns:
      float32 [batch, frames, levels, codes].
    """
    output = self.layout.output
    hidden = self.transformer(
      self.inputs(tokens), valid_mask=self.layout.valid_mask(tokens)
    )
    hidden = hidden[:, output.start - 1 : output.stop - 1]
    hidden = hidden.unflatten(1, (output.num_frames, len(output.levels)))
    table = self.logits.weight[self.legal_ids]  # [levels, codes, embed]
    # Float32: in half precision two likely codes tie.
    return torch.einsum('btqd,qvd->btqv', hidden.float(), table.float())

  def new_cache(self, num_rows: int, *, capacity: int) -> Tensor:
    """Room for keys and values of `capacity` positions."""
    config = self.transformer.config
    heads = config.num_heads, capacity, config.head_dim
    return self.logits.weight.new_zeros(config.num_layers, 2, num_rows, *heads)

  def prefill(self, tokens: Tensor, *, cache: Tensor) -> None:
    """Reads the first positions of rows in one pass, and fills the cache.

    Args:
      tokens: Without padding.
      cache: Of at least as many positions.
    """
    self.transformer(self.inputs(tokens), cache=cache)

  def step(self, tokens: Tensor, *, cache: Tensor, position: Tensor) -> Tensor:
    """One position: its token in, the logits of the next position out.

    Args:
      tokens: Those at `position`, [batch]; it precedes one of the output.
      cache: Of the positions before, none of them padding; takes this one in.
      position: The same in all rows, int64 [1].

    Returns:
      float32 [batch, codes], of the codes that are legal next.
    """
    output = self.layout.output
    hidden = self.transformer(
      self.inputs(tokens[:, None]), cache=cache, position=position
    )[:, 0]
    level = (position + 1 - output.start) % len(output.levels)
    table = self.logits.weight[self.legal_ids[level][0]]
    return functional.linear(hidden.float(), table.float())
