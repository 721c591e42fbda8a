# SPDX-License-Identifier: Apache-2.0
"""Conformer blocks: attention for the far, a convolution for the near.

Gulati et al., "Conformer" (2020), section 2, equation 1, with LayerNorm in
place of BatchNorm, and T5's bias or rotary embedding for positions.

Shapes: [batch, frames, embed] in and out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .configuration import Config
from .layers import FeedForward, LayerNorm, RelativeBias, SelfAttention


class ConvolutionModule(nn.Module):
  """Gated, convolved, normed, activated and back: figure 2 of the paper."""

  def __init__(self, config: Config):
    super().__init__()
    width = config.embed_dim
    self.wide = nn.Linear(width, 2 * width, bias=False)
    self.depthwise = nn.Conv1d(
      width,
      width,
      config.kernel_size,
      padding=config.kernel_size // 2,
      groups=width,
      bias=False,
    )
    self.norm = LayerNorm(width)
    self.narrow = nn.Linear(width, width, bias=False)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    gate, value = self.wide(inputs).chunk(2, dim=-1)
    hidden = (torch.sigmoid(gate) * value).transpose(1, 2)
    hidden = self.norm(self.depthwise(hidden).transpose(1, 2))
    return self.narrow(functional.silu(hidden))


class ConformerBlock(nn.Module):
  """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

  def __init__(self, config: Config):
    super().__init__()
    width = config.embed_dim
    self.first_feedforward_norm = LayerNorm(width)
    self.first_feedforward = _feedforward(config)
    self.attention_norm = LayerNorm(width)
    self.attention = SelfAttention(
      embed_dim=width,
      num_heads=config.num_heads,
      head_dim=width // config.num_heads,
    )
    self.convolution_norm = LayerNorm(width)
    self.convolution = ConvolutionModule(config)
    self.second_feedforward_norm = LayerNorm(width)
    self.second_feedforward = _feedforward(config)
    self.norm = LayerNorm(width)

  def forward(
    self,
    hidden: torch.Tensor,
    *,
    bias: torch.Tensor | None,
    positions: torch.Tensor | None,
  ) -> torch.Tensor:
    normed = self.first_feedforward_norm(hidden)
    hidden = hidden + 0.5 * self.first_feedforward(normed)
    hidden = hidden + self.attention(
      self.attention_norm(hidden), mask=bias, positions=positions
    )
    hidden = hidden + self.convolution(self.convolution_norm(hidden))
    normed = self.second_feedforward_norm(hidden)
    return self.norm(hidden + 0.5 * self.second_feedforward(normed))


class Conformer(nn.Module):
  """A stack of blocks, all of whose frames are valid."""

  def __init__(self, config: Config, *, num_blocks: int):
    super().__init__()
    self.is_rotary = config.position == 'rotary'
    if not self.is_rotary:
      sizes = {
        'num_heads': config.num_heads,
        'num_buckets': config.num_buckets,
        'max_distance': config.max_distance,
      }
      self.past_bias = RelativeBias(**sizes)
      self.future_bias = RelativeBias(**sizes)
    self.blocks = nn.ModuleList(
      ConformerBlock(config) for _ in range(num_blocks)
    )

  def forward(self, hidden: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    bias = None if self.is_rotary else self._bias(positions)
    for block in self.blocks:
      hidden = block(
        hidden, bias=bias, positions=positions if self.is_rotary else None
      )
    return hidden

  def _bias(self, positions: torch.Tensor) -> torch.Tensor:
    """[1, heads, frames, frames], of a query and a key."""
    frames = positions.shape[0]
    back = positions[:, None] - positions[None]
    past = self.past_bias(frames)[:, back.clamp(min=0)]
    future = self.future_bias(frames)[:, (-back).clamp(min=0)]
    return torch.where(back >= 0, past, future)[None]


def _feedforward(config: Config) -> FeedForward:
  return FeedForward(
    embed_dim=config.embed_dim,
    mlp_dim=config.mlp_dim,
    is_gated=False,
    activation=functional.silu,
  )
