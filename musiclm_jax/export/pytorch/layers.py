# SPDX-License-Identifier: Apache-2.0
"""Layers that several models share: norms, attention, feed-forward, positions.

Norms and the softmax are float32 whatever the rest is computed in.

Shapes: [batch, length, embed] in and out; heads, kv = width of one head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-6
ROTARY_BASE = 10_000


class Float32Module(nn.Module):
  """Keeps its tensors in float32 when the model is cast to half precision.

  Codes that lie close to each other tie in half precision.
  """

  def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
    def move_only(tensor: torch.Tensor) -> torch.Tensor:
      moved = fn(tensor)
      return tensor.to(moved.device) if tensor.is_floating_point() else moved

    return super()._apply(move_only, recurse)


class RMSNorm(nn.Module):
  """Divides by the root mean square; one gain a channel, no bias."""

  def __init__(self, embed_dim: int):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(embed_dim))

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    values = inputs.float()
    mean_square = values.square().mean(dim=-1, keepdim=True)
    values = values * torch.rsqrt(mean_square + EPSILON)
    return (values * self.weight.float()).to(inputs.dtype)


class LayerNorm(nn.Module):
  """Subtracts the mean, divides by the deviation; gain and bias by channel."""

  def __init__(self, embed_dim: int, *, epsilon: float = EPSILON):
    super().__init__()
    self.epsilon = epsilon
    self.weight = nn.Parameter(torch.ones(embed_dim))
    self.bias = nn.Parameter(torch.zeros(embed_dim))

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(
      inputs.float(),
      self.weight.shape,
      self.weight.float(),
      self.bias.float(),
      self.epsilon,
    ).to(inputs.dtype)


class FeedForward(nn.Module):
  """Wide and back: out(act(gate) * value), or out(act(wide)) if not gated."""

  def __init__(
    self,
    *,
    embed_dim: int,
    mlp_dim: int,
    is_gated: bool,
    activation: Callable[[torch.Tensor], torch.Tensor],
    bias: bool = False,
  ):
    super().__init__()
    self.is_gated = is_gated
    self.activation = activation
    self.wide = nn.Linear(embed_dim, mlp_dim * (1 + is_gated), bias=bias)
    self.narrow = nn.Linear(mlp_dim, embed_dim, bias=bias)

  def forward(self, inputs: torch.Tensor) -> torch.Tensor:
    hidden = self.wide(inputs)
    if not self.is_gated:
      return self.narrow(self.activation(hidden))
    gate, value = hidden.chunk(2, dim=-1)
    return self.narrow(self.activation(gate) * value)


def gelu(inputs: torch.Tensor) -> torch.Tensor:
  """The approximation by tanh, which JAX takes for GELU."""
  return functional.gelu(inputs, approximate='tanh')


class SelfAttention(nn.Module):
  """Multi-head attention of a whole sequence to itself."""

  def __init__(
    self, *, embed_dim: int, num_heads: int, head_dim: int, bias: bool = False
  ):
    super().__init__()
    self.num_heads = num_heads
    self.head_dim = head_dim
    width = num_heads * head_dim
    self.query_key_value = nn.Linear(embed_dim, 3 * width, bias=bias)
    self.out = nn.Linear(width, embed_dim, bias=bias)

  def project(
    self, inputs: torch.Tensor, *, positions: torch.Tensor | None = None
  ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values, [batch, heads, length, kv].

    Args:
      inputs: The sequence.
      positions: Turns queries and keys by rotary embedding, if given.
    """
    batch, length, _ = inputs.shape
    projected = self.query_key_value(inputs)
    projected = projected.view(batch, length, 3, self.num_heads, self.head_dim)
    query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
    if positions is None:
      return query, key, value
    return rotate(query, positions), rotate(key, positions), value

  def merge(self, attended: torch.Tensor) -> torch.Tensor:
    """[batch, heads, length, kv] to [batch, length, embed]."""
    batch, _, length, _ = attended.shape
    return self.out(attended.transpose(1, 2).reshape(batch, length, -1))

  def forward(
    self,
    inputs: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
  ) -> torch.Tensor:
    """Attends.

    Args:
      inputs: The sequence.
      mask: Added to the scores, or True where a query may look; broadcast to
        [batch, heads, length, length].
      positions: For rotary embedding.
    """
    query, key, value = self.project(inputs, positions=positions)
    if mask is not None and mask.is_floating_point():
      mask = mask.to(query.dtype)
    return self.merge(
      functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    )


class RelativeBias(nn.Module):
  """T5's: one learned bias a head and bucket of distances."""

  def __init__(self, *, num_heads: int, num_buckets: int, max_distance: int):
    super().__init__()
    self.max_distance = max_distance
    self.weight = nn.Parameter(torch.zeros(num_heads, num_buckets))

  def forward(self, num_distances: int | torch.SymInt) -> torch.Tensor:
    """[heads, distances] for distances 0 to `num_distances` - 1, float32."""
    buckets = distance_buckets(
      torch.arange(num_distances, device=self.weight.device),
      num_buckets=self.weight.shape[1],
      max_distance=self.max_distance,
    )
    return self.weight.float()[:, buckets]


class TimeBias(nn.Module):
  """One learned bias a head and bucket of differences in time."""

  def __init__(self, *, num_heads: int, num_buckets: int, max_distance: int):
    super().__init__()
    self.max_distance = max_distance
    self.weight = nn.Parameter(torch.zeros(num_heads, 2 * num_buckets))

  def forward(self, max_lag: int) -> torch.Tensor:
    """[heads, lags]: from -`max_lag` to `max_lag`, then of what has no time."""
    num_buckets = self.weight.shape[1] // 2
    buckets = distance_buckets(
      torch.arange(max_lag + 1, device=self.weight.device),
      num_buckets=num_buckets,
      max_distance=self.max_distance,
    )
    # Lag 0 is told once; its second bucket is the one of what has no time.
    ahead = num_buckets + buckets[1:].flip(0)
    places = torch.cat([ahead, buckets, buckets.new_tensor([num_buckets])])
    return self.weight.float()[:, places]


def distance_buckets(
  distances: torch.Tensor, *, num_buckets: int, max_distance: int
) -> torch.Tensor:
  """The bucket of each distance: one each at first, then by the logarithm."""
  num_exact = num_buckets // 2
  share = torch.log(distances.clamp(min=1).double() / num_exact) / math.log(
    max_distance / num_exact
  )
  # The epsilon keeps exact powers in the bucket that they open.
  far = num_exact + torch.floor(share * (num_buckets - num_exact) + 1e-9)
  far = far.long().clamp(max=num_buckets - 1)
  return torch.where(distances < num_exact, distances, far)


def rotate(heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
  """Rotary embedding of [.., length, kv]: turns pairs by their position."""
  half = heads.shape[-1] // 2
  steps = torch.arange(half, dtype=torch.float64, device=heads.device)
  frequencies = (ROTARY_BASE ** (-steps / half)).float()
  # Float32: bfloat16 cannot tell position 257 from 258.
  angles = positions.float()[:, None] * frequencies
  first, second = heads.float().chunk(2, dim=-1)
  cos, sin = angles.cos(), angles.sin()
  turned = torch.cat(
    [first * cos - second * sin, first * sin + second * cos], dim=-1
  )
  return turned.to(heads.dtype)
