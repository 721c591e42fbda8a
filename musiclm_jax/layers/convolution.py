# SPDX-License-Identifier: Apache-2.0
"""Causal convolutions over time, with weight normalization and streaming.

SoundStream (Zeghidour et al., 2021), section III-A: padding is in the past
only. Weight normalization (Salimans and Kingma, 2016), equation 2.

Shapes: inputs are [batch, time, channels_in], outputs
[batch, time / stride, channels_out] (time * stride when transposed).

A convolution of stride s whose kernel is a whole number of strides is one of
stride 1 over s times the channels, and so is its transpose: every layer here is
`dilated_conv` on a reshaped input. That needs no other form for any backend,
and XLA's CPU convolution runs it at the rate of a matrix product.

Streaming: apply with `mutable=[HISTORY]` and each layer keeps the inputs that
its next outputs still need in the collection `HISTORY`, which the caller hands
back with the next chunk. Without it the past is silence.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Array
from musiclm_jax.layers import parameters

HISTORY = 'history'  # collection of what streaming layers remember

_KERNEL_AXES = (axes.KERNEL, axes.CHANNELS_IN, axes.CHANNELS_OUT)

_NORMALIZED = ('weight_v', 'weight_g')


@jax.custom_jvp
def elu(x: Float[Array, '*shape']) -> Float[Array, '*shape']:
  """Exponential linear unit, max(x, exp(min(x, 0)) - 1)."""
  # Branch-free: XLA's CPU code for the select in `jax.nn.elu` takes twice the
  # time of this, which costs no more than reading and writing the array.
  return jnp.maximum(x, jnp.exp(jnp.minimum(x, 0)) - 1)


@elu.defjvp
def _elu_jvp(
  primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  outputs = elu(*primals)
  # exp(x) = elu(x) + 1 below zero, so the output alone is kept for the
  # backward pass, where the next convolution keeps it anyway.
  return outputs, tangents[0] * (jnp.minimum(outputs, 0) + 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dilated_conv(
  inputs: Float[Array, 'batch extended channels_in'],
  kernel: Float[Array, 'kernel channels_in channels_out'],
  dilation: int,
) -> Float[Array, 'batch time channels_out']:
  """Outputs where the whole kernel overlaps: time = extended - reach.

  With reach = (kernel - 1) * dilation. Its gradient towards the inputs is
  written out because the one XLA derives runs at a quarter of its rate on CPU
  for narrow layers.
  """
  if len(kernel) == 1:
    return inputs @ kernel[0]
  return _conv(inputs, kernel, dilation)


def _conv(inputs: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(1,),
    padding='VALID',
    rhs_dilation=(dilation,),
    dimension_numbers=('NTC', 'TIO', 'NTC'),
  )


def _dilated_conv_forward(
  inputs: jax.Array, kernel: jax.Array, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return dilated_conv(inputs, kernel, dilation), (inputs, kernel)


def _dilated_conv_backward(
  dilation: int, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  inputs, kernel = residuals
  reach = (len(kernel) - 1) * dilation
  to_inputs = dilated_conv(
    jnp.pad(cotangent, ((0, 0), (reach, reach), (0, 0))),
    jnp.flip(kernel, 0).swapaxes(1, 2),
    dilation,
  )
  if len(kernel) == 1:
    return to_inputs, jnp.einsum('bti,bto->io', inputs, cotangent)[None]
  _, pull_back = jax.vjp(lambda k: _conv(inputs, k, dilation), kernel)
  return to_inputs, *pull_back(cotangent)


dilated_conv.defvjp(_dilated_conv_forward, _dilated_conv_backward)


def weight_normalized(
  v: Float[Array, '... channels_in channels_out'],
  g: Float[Array, ' channels_out'],
) -> Float[Array, '... channels_in channels_out']:
  """w = g v / |v|, one norm an output channel; at least float32."""
  # On the host what lies there: else each shape compiles five programs.
  xp = np if isinstance(v, np.ndarray) else jnp
  v = v.astype(metrics.accumulation_dtype(v.dtype))
  norm = xp.sqrt(xp.sum(v * v, axis=tuple(range(v.ndim - 1)), keepdims=True))
  return v * (g.reshape((1,) * (v.ndim - 1) + (-1,)) / norm)


def kernel_param(
  module: nn.Module,
  shape: tuple[int, ...],
  param_dtype: Any,
  *,
  kernel_axes: tuple[str | None, ...],
  weight_norm: bool,
  fan_in_share: float = 1.0,
) -> Float[Array, '... channels_in channels_out']:
  """Makes or reads a kernel [..., channels_in, channels_out] of `module`.

  With `weight_norm` it is stored as `weight_v` (its shape) and `weight_g` (one
  an output channel), as PyTorch does with the output channel as `dim`; `g`
  starts at |v|, so the first kernel is v.

  Args:
    module: The layer that owns it.
    shape: Of the kernel.
    param_dtype: Stored type.
    kernel_axes: Logical names, one a dimension.
    weight_norm: Whether to store direction and norm.
    fan_in_share: Share of the kernel that one output sees, for its scale at
      the start: a transposed convolution sees one tap in `stride`.

  Returns:
    The kernel that is convolved with.
  """
  # Uniform within 1 / sqrt(fan_in), PyTorch's start and so that of the codecs.
  init = nn.initializers.variance_scaling(
    1 / (3 * fan_in_share), 'fan_in', 'uniform'
  )
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


def fold_weight_norm(params: Mapping[str, Any]) -> dict[str, Any]:
  """Parameters of the same layers without weight normalization."""
  if 'weight_v' not in params:
    return {
      name: fold_weight_norm(value) if isinstance(value, Mapping) else value
      for name, value in params.items()
    }
  v, g = params['weight_v'], params['weight_g']
  others = {k: p for k, p in params.items() if k not in _NORMALIZED}
  return {**others, 'weight': weight_normalized(v, g).astype(v.dtype)}


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
    batch, time, channels_in = inputs.shape
    _require_whole_strides(self, time)
    taps = self.kernel_size // self.stride
    folded = inputs.astype(self.dtype).reshape(
      batch, time // self.stride, self.stride * channels_in
    )
    outputs = dilated_conv(
      _with_history(self, folded, (taps - 1) * self.dilation),
      kernel.astype(self.dtype).reshape(taps, -1, self.features),
      self.dilation,
    )
    return outputs + _bias(self)


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
    _require_whole_kernel(self)
    batch, time, channels_in = inputs.shape
    kernel = kernel_param(
      self,
      (self.kernel_size, channels_in, self.features),
      self.param_dtype,
      kernel_axes=_KERNEL_AXES,
      weight_norm=self.weight_norm,
      fan_in_share=1 / self.stride,
    )
    # Each input step gives `stride` outputs through each of `taps` kernels, the
    # last of which meets the oldest input.
    taps = self.kernel_size // self.stride
    kernel = kernel.reshape(taps, self.stride, channels_in, self.features)
    kernel = jnp.flip(kernel, 0).swapaxes(1, 2)
    outputs = dilated_conv(
      _with_history(self, inputs.astype(self.dtype), taps - 1),
      kernel.astype(self.dtype).reshape(taps, channels_in, -1),
      1,
    )
    outputs = outputs.reshape(batch, time * self.stride, self.features)
    return outputs + _bias(self)


def _bias(
  module: CausalConv | CausalTransposedConv,
) -> Float[Array, '1 1 channels_out']:
  bias = parameters.param(
    module,
    'bias',
    nn.initializers.zeros,
    (module.features,),
    module.param_dtype,
    axes=(axes.CHANNELS_OUT,),
  )
  return bias.astype(module.dtype).reshape(1, 1, -1)


def _with_history(
  module: nn.Module, inputs: Float[Array, 'batch time channels'], length: int
) -> Float[Array, 'batch extended channels']:
  """The inputs after the `length` steps before them, silence at the start."""
  if length == 0:
    return inputs
  batch, _, channels = inputs.shape
  silence = jnp.zeros((batch, length, channels), inputs.dtype)
  if module.is_initializing() or not module.is_mutable_collection(HISTORY):
    return jnp.concatenate([silence, inputs], axis=1)
  history = module.variable(HISTORY, 'inputs', lambda: silence)
  extended = jnp.concatenate([history.value, inputs], axis=1)
  history.value = extended[:, extended.shape[1] - length :]
  return extended


def _require_whole_kernel(module: CausalConv | CausalTransposedConv) -> None:
  if module.kernel_size % module.stride:
    raise ValueError(
      f'A convolution of stride {module.stride} takes a kernel of a whole'
      f' number of strides, not {module.kernel_size}.'
    )


def _require_whole_strides(module: CausalConv, time: int) -> None:
  _require_whole_kernel(module)
  if module.stride > 1 and module.dilation > 1:
    raise ValueError(
      f'A convolution has a stride ({module.stride}) or a dilation'
      f' ({module.dilation}), not both.'
    )
  if time % module.stride:
    raise ValueError(
      f'A convolution of stride {module.stride} takes a multiple of'
      f' {module.stride} steps, not {time}; pad the input to a multiple.'
    )
