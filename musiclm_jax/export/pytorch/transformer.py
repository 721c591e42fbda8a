# SPDX-License-Identifier: Apache-2.0
"""A decoder-only Transformer body: T5 1.1's decoder without cross-attention.

Raffel et al. (2020), with the gated GELU of its version 1.1: norms before the
layers and at the end, no biases, one relative position bias for all layers (or
rotary embedding). Scores are divided by the root of the head width. Positions
that are 'aligned' have, between the segments of a row, a bias of differences in
time instead.

Shapes: [batch, length, embed]; a cache is [layers, 2, batch, heads, capacity,
kv], keys and values, and is written in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import layers
from .configuration import Config
from .layout import StageLayout


class Block(nn.Module):
  """Attention, then feed-forward; each is normed before, and added."""

  def __init__(self, config: Config):
    super().__init__()
    self.attention_norm = layers.RMSNorm(config.embed_dim)
    self.attention = layers.SelfAttention(
      embed_dim=config.embed_dim,
      num_heads=config.num_heads,
      head_dim=config.head_dim,
    )
    self.feedforward_norm = layers.RMSNorm(config.embed_dim)
    self.feedforward = layers.FeedForward(
      embed_dim=config.embed_dim,
      mlp_dim=config.mlp_dim,
      is_gated=True,
      activation=layers.gelu,
    )

  def forward(
    self,
    hidden: Tensor,
    *,
    mask: Tensor,
    positions: Tensor,
    rotary: bool,
    cache: Tensor | None = None,
  ) -> Tensor:
    """Attends to the inputs, or to a cache once they are in it.

    Args:
      hidden: The inputs.
      mask: Added to the scores of [batch, heads, length, attended].
      positions: Of the inputs, and where in the cache they belong.
      rotary: Whether positions turn queries and keys.
      cache: Keys and values, [2, batch, heads, capacity, kv].
    """
    query, key, value = self.attention.project(
      self.attention_norm(hidden), positions=positions if rotary else None
    )
    if cache is not None:
      cache[0].index_copy_(2, positions, key)
      cache[1].index_copy_(2, positions, value)
      if mask.shape[-1] > key.shape[2]:
        key, value = cache[0], cache[1]
    attended = functional.scaled_dot_product_attention(
      query, key, value, attn_mask=mask
    )
    hidden = hidden + self.attention.merge(attended)
    return hidden + self.feedforward(self.feedforward_norm(hidden))


class Transformer(nn.Module):
  """Blocks over a causal sequence."""

  def __init__(self, config: Config, *, layout: StageLayout):
    super().__init__()
    self.config = config
    self.rotary = config.position == 'rotary'
    self.aligned = config.position == 'aligned'
    sizes = {
      'num_heads': config.num_heads,
      'num_buckets': config.num_buckets,
      'max_distance': config.max_distance,
    }
    if not self.rotary:
      self.relative_bias = layers.RelativeBias(**sizes)
    if self.aligned:
      self.time_bias = layers.TimeBias(**sizes)
      self.max_lag = int(layout.times.max().clamp(min=0))
      owners, times = layout.segment_index, layout.times
      self.register_buffer('owners', owners, persistent=False)
      self.register_buffer('times', times, persistent=False)
    self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
    self.norm = layers.RMSNorm(config.embed_dim)

  def forward(
    self,
    embedded: Tensor,
    *,
    valid_mask: Tensor | None = None,
    cache: Tensor | None = None,
    position: Tensor | None = None,
  ) -> Tensor:
    """Runs a whole sequence, or one position after those in a cache.

    Args:
      embedded: The inputs; of one position if `position` is given.
      valid_mask: True where a whole sequence may be looked at, its first
        position at least, [batch, length]; everywhere if left out.
      cache: Takes keys and values of the inputs.
      position: Where in the cache the one input stands, int64 [1].

    Returns:
      The outputs, after the last norm.
    """
    if position is None:
      num_attended = embedded.shape[1]  # `len` would be a constant when traced.
      positions = torch.arange(num_attended, device=embedded.device)
    else:
      positions, num_attended = position, cache.shape[-2]
    mask = self._mask(positions, num_attended, dtype=embedded.dtype)
    if valid_mask is not None:
      mask = mask.masked_fill(~valid_mask[:, None, None], -torch.inf)
    hidden = embedded
    for index, block in enumerate(self.layers):
      hidden = block(
        hidden,
        mask=mask,
        positions=positions,
        rotary=self.rotary,
        cache=None if cache is None else cache[index],
      )
    return self.norm(hidden)

  def _mask(
    self,
    positions: Tensor,
    num_attended: int | torch.SymInt,
    *,
    dtype: torch.dtype,
  ) -> Tensor:
    """Bias where a key is not after its query, [1, heads, length, attended]."""
    attended = torch.arange(num_attended, device=positions.device)
    distance = positions[:, None] - attended[None]
    if self.rotary:
      bias = torch.zeros(1, *distance.shape, device=positions.device)
    else:
      bias = self.relative_bias(num_attended)[:, distance.clamp(min=0)]
      if self.aligned:
        bias = self._between_segments(bias, positions, attended)
    return bias.masked_fill(distance < 0, -torch.inf)[None].to(dtype)

  def _between_segments(
    self, bias: Tensor, positions: Tensor, attended: Tensor
  ) -> Tensor:
    """`bias` [heads, length, attended], that of times between segments."""
    # Beyond the row as at its end, where all is after every query: a program
    # then takes a cache of any capacity.
    last = len(self.owners) - 1
    positions, attended = positions.clamp(max=last), attended.clamp(max=last)
    owner, time = self.owners[positions, None], self.times[positions, None]
    owners, times = self.owners[attended], self.times[attended]
    lags = (time - times).where((time >= 0) & (times >= 0), self.max_lag + 1)
    by_time = self.time_bias(self.max_lag)[:, lags + self.max_lag]
    is_between = (owner != owners) & (owner >= 0) & (owners >= 0)
    return by_time.where(is_between, bias)
