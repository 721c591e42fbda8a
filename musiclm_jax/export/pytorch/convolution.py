# SPDX-License-Identifier: Apache-2.0
"""Causal convolutions over time, with weight normalization and streaming.

A layer sees its inputs up to the present. What it needs of those before is
silence, or what a `Past` holds of the chunk before.

Shapes: [batch, channels, time].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class Past:
  """What the streaming layers of a model remember, one tensor a layer.

  Attributes:
    kept: For the next chunk, in the order in which the layers ran.
  """

  def __init__(self, state: Sequence[torch.Tensor] | None = None):
    """Begins with the `kept` of the chunk before; with silence if left out."""
    self.kept: list[torch.Tensor] = []
    self._state = None if state is None else iter(state)

  def extend(self, inputs: torch.Tensor, length: int) -> torch.Tensor:
    """The inputs after the `length` steps before them."""
    if length == 0:
      return inputs
    if self._state is None:
      extended = functional.pad(inputs, (length, 0))
    else:
      extended = torch.cat([next(self._state), inputs], dim=-1)
    self.kept.append(extended[..., extended.shape[-1] - length :])
    return extended


class _Convolution(nn.Module):
  """A kernel, stored as direction and norm (`weight_v`, `weight_g`) or whole.

  Salimans and Kingma, "Weight Normalization" (2016), equation 2, with one norm
  an output channel.
  """

  channels_first = True

  def __init__(
    self,
    shape: tuple[int, int, int],
    *,
    out_axis: int,
    stride: int,
    weight_norm: bool,
  ):
    super().__init__()
    self.stride = stride
    self.kernel_size = shape[-1]
    self._others = tuple(axis for axis in range(3) if axis != out_axis)
    self.bias = nn.Parameter(torch.zeros(shape[out_axis]))
    weight = nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5)
    if weight_norm:
      self.weight_g = nn.Parameter(self._norm(weight))
      self.weight_v = nn.Parameter(weight)
    else:
      self.weight = nn.Parameter(weight)

  def kernel(self, dtype: torch.dtype) -> torch.Tensor:
    """What is convolved with."""
    if hasattr(self, 'weight'):
      return self.weight.to(dtype)
    v = self.weight_v.float()
    return (v * (self.weight_g.float() / self._norm(v))).to(dtype)

  @torch.no_grad()
  def fold_weight_norm(self) -> None:
    """Stores the kernel whole: faster, and no longer what was exported."""
    if not hasattr(self, 'weight'):
      weight = self.kernel(self.weight_v.dtype)
      del self.weight_v, self.weight_g
      self.weight = nn.Parameter(weight)

  def _norm(self, weight: torch.Tensor) -> torch.Tensor:
    return weight.square().sum(dim=self._others, keepdim=True).sqrt()


class CausalConv1d(_Convolution):
  """One output step for each `stride` input steps."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    weight_norm: bool = True,
  ):
    super().__init__(
      (out_channels, in_channels, kernel_size),
      out_axis=0,
      stride=stride,
      weight_norm=weight_norm,
    )
    self.dilation = dilation

  def forward(
    self, inputs: torch.Tensor, past: Past | None = None
  ) -> torch.Tensor:
    reach = (self.kernel_size - 1) * self.dilation - (self.stride - 1)
    return functional.conv1d(
      (past or Past()).extend(inputs, reach),
      self.kernel(inputs.dtype),
      self.bias.to(inputs.dtype),
      stride=self.stride,
      dilation=self.dilation,
    )


class CausalConvTranspose1d(_Convolution):
  """`stride` output steps for each input step; the kernel is whole strides."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int,
    weight_norm: bool = True,
  ):
    super().__init__(
      (in_channels, out_channels, kernel_size),
      out_axis=1,
      stride=stride,
      weight_norm=weight_norm,
    )

  def forward(
    self, inputs: torch.Tensor, past: Past | None = None
  ) -> torch.Tensor:
    reach = self.kernel_size // self.stride - 1
    return functional.conv_transpose1d(
      (past or Past()).extend(inputs, reach),
      self.kernel(inputs.dtype),
      self.bias.to(inputs.dtype),
      stride=self.stride,
      # Takes off both ends what the past, and what the future, has a share in.
      padding=reach * self.stride,
    )
