# SPDX-License-Identifier: Apache-2.0
"""Causal convolutions over time, with weight normalization and streaming.

SoundStream (Zeghidour et al., 2021), section III-A: padding is in the past
only. Weight normalization (Salimans and Kingma, 2016), equation 2.

Shapes: inputs are [batch, time, channels_in], outputs
[batch, time / stride, channels_out] (time * stride when transposed).

Streaming: apply with `mutable=[HISTORY]` and each layer keeps the inputs that
its next outputs still need in the collection `HISTORY`, which the caller hands
back with the next chunk. Without it the past is silence.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax import axes, metrics
from musiclm_jax.layers import parameters

HISTORY = 'history'  # collection of what streaming layers remember

_KERNEL_AXES = (axes.KERNEL, axes.CHANNELS_IN, axes.CHANNELS_OUT)


def weight_normalized(
  v: Float[Array, '... channels_in channels_out'],
  g: Float[Array, ' channels_out'],
) -> Float[Array, '... channels_in channels_out']:
  """w = g v / |v|, one norm an output channel; at least float32."""
  v = v.astype(metrics.accumulation_dtype(v.dtype))
  norm = jnp.sqrt(jnp.sum(v * v, axis=range(v.ndim - 1), keepdims=True))
  return v * (g.reshape((1,) * (v.ndim - 1) + (-1,)) / norm)


def kernel_param(
  module: nn.Module,
  shape: tuple[int, ...],
  param_dtype: Any,
  *,
  kernel_axes: tuple[str | None, ...],
  weight_norm: bool,
) -> Float[Array, '... channels_in channels_out']:
  """Makes or reads a kernel [..., channels_in, channels_out] of `module`.

  With `weight_norm` it is stored as `weight_v` (its shape) and `weight_g` (one
  an output channel), as PyTorch does with the output channel as `dim`; `g`
  starts at |v|, so the first kernel is v.
  """
  init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  if not weight_norm:
    return parameters.param(
      module, 'weight', init, shape, param_dtype, axes=kernel_axes
    )
  v = parameters.param(
    module, 'weight_v', init, shape, param_dtype, axes=kernel_axes
  )
  g = parameters.param(
    module,
    'weight_g',
    lambda key, shape, dtype: jnp.linalg.norm(
      v.reshape(-1, v.shape[-1]), axis=0
    ).astype(dtype),
    shape[-1:],
    param_dtype,
    axes=kernel_axes[-1:],
  )
  return weight_normalized(v, g)


class CausalConv(nn.Module):
  """A convolution that sees its input up to and including the present.

  Attributes:
    features: Output channels.
    kernel_size: Taps.
    stride: Input steps an output step; the input's length is a multiple.
    dilation: Input steps between two taps.
    weight_norm: Whether the kernel is stored as direction and norm.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dilation: int = 1
  weight_norm: bool = True
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch time channels_in']
  ) -> Float[Array, 'batch out_time channels_out']:
    kernel = kernel_param(
      self,
      (self.kernel_size, inputs.shape[-1], self.features),
      self.param_dtype,
      kernel_axes=_KERNEL_AXES,
      weight_norm=self.weight_norm,
    )
    bias = _bias_param(self)
    _require_whole_strides(inputs.shape[1], self.stride)
    reach = (self.kernel_size - 1) * self.dilation + 1 - self.stride
    outputs = jax.lax.conv_general_dilated(
      _with_history(self, inputs.astype(self.dtype), reach),
      kernel.astype(self.dtype),
      window_strides=(self.stride,),
      padding='VALID',
      rhs_dilation=(self.dilation,),
      dimension_numbers=('NTC', 'TIO', 'NTC'),
    )
    return outputs + bias.astype(self.dtype).reshape(1, 1, -1)


class CausalTransposedConv(nn.Module):
  """Upsamples by `stride`; output step t sees inputs up to t // stride.

  The full transposed convolution, less its last `kernel_size - stride` steps.

  Attributes:
    features: Output channels.
    kernel_size: Taps, a multiple of the stride.
    stride: Output steps an input step.
    weight_norm: Whether the kernel is stored as direction and norm.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  features: int
  kernel_size: int
  stride: int
  weight_norm: bool = True
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch time channels_in']
  ) -> Float[Array, 'batch out_time channels_out']:
    if self.kernel_size % self.stride:
      raise ValueError(
        f'A transposed convolution of stride {self.stride} takes a kernel of'
        f' a whole number of strides, not {self.kernel_size}.'
      )
    channels_in = inputs.shape[-1]
    kernel = kernel_param(
      self,
      (self.kernel_size, channels_in, self.features),
      self.param_dtype,
      kernel_axes=_KERNEL_AXES,
      weight_norm=self.weight_norm,
    )
    bias = _bias_param(self)
    # Each input step gives `stride` outputs through each of `taps` kernels, so
    # it is a plain convolution of taps and stride * features channels.
    taps = self.kernel_size // self.stride
    kernel = kernel.reshape(taps, self.stride, channels_in, self.features)
    kernel = jnp.flip(kernel.swapaxes(1, 2), 0)
    outputs = jax.lax.conv_general_dilated(
      _with_history(self, inputs.astype(self.dtype), taps - 1),
      kernel.astype(self.dtype).reshape(taps, channels_in, -1),
      window_strides=(1,),
      padding='VALID',
      dimension_numbers=('NTC', 'TIO', 'NTC'),
    )
    batch, time, _ = inputs.shape
    outputs = outputs.reshape(batch, time * self.stride, self.features)
    return outputs + bias.astype(self.dtype).reshape(1, 1, -1)


def _bias_param(module: CausalConv | CausalTransposedConv) -> Array:
  return parameters.param(
    module,
    'bias',
    nn.initializers.zeros,
    (module.features,),
    module.param_dtype,
    axes=(axes.CHANNELS_OUT,),
  )


def _with_history(
  module: nn.Module, inputs: Float[Array, 'batch time channels'], length: int
) -> Float[Array, 'batch extended channels']:
  """The inputs after the `length` steps before them, silence at the start."""
  batch, _, channels = inputs.shape
  silence = jnp.zeros((batch, length, channels), inputs.dtype)
  if module.is_initializing() or not module.is_mutable_collection(HISTORY):
    return jnp.concatenate([silence, inputs], axis=1)
  history = module.variable(HISTORY, 'inputs', lambda: silence)
  extended = jnp.concatenate([history.value, inputs], axis=1)
  history.value = extended[:, extended.shape[1] - length :]
  return extended


def _require_whole_strides(time: int, stride: int) -> None:
  if time % stride:
    raise ValueError(
      f'A convolution of stride {stride} takes a multiple of {stride} steps,'
      f' not {time}; pad the input to a multiple.'
    )
