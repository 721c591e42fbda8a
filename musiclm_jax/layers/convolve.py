# SPDX-License-Identifier: Apache-2.0
"""Convolution over one or two axes, fast on CPU in its gradients too.

Strides, dilation, groups and any padding. On CPU the passes are those of
`convolution_passes`; other backends take XLA's own. The layer pads as a centred
convolution does, so it sees as much of the future as of the past.

Shapes: inputs are [batch, time, channels_in] or [batch, time, bins,
channels_in]; kernels have one axis of taps for each axis convolved over, then
channels_in / groups and channels_out.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax import axes
from musiclm_jax.layers import convolution, convolution_passes, parameters
from musiclm_jax.layers.convolution_passes import Geometry


class Convolution(nn.Module):
  """A centred convolution: outputs = inputs / stride, about.

  Attributes:
    features: Output channels.
    kernel_size: Taps of each axis that is convolved over, one or two.
    strides: Input steps an output step, of each axis; 1 if left out.
    dilation: Input steps from one tap to the next; 1 if left out.
    num_groups: Groups of channels that do not mix.
    weight_norm: Whether the kernel is stored as direction and norm.
    use_bias: Whether a bias is added.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  features: int
  kernel_size: tuple[int, ...]
  strides: tuple[int, ...] | None = None
  dilation: tuple[int, ...] | None = None
  num_groups: int = 1
  weight_norm: bool = True
  use_bias: bool = True
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch *steps channels_in']
  ) -> Float[Array, 'batch *out_steps channels_out']:
    num_axes = len(self.kernel_size)
    # Sharding rules take each name once: taps of a second axis have none.
    tap_axes = (axes.KERNEL, *(None,) * (num_axes - 1))
    kernel = convolution.kernel_param(
      self,
      (*self.kernel_size, inputs.shape[-1] // self.num_groups, self.features),
      self.param_dtype,
      kernel_axes=(*tap_axes, axes.CHANNELS_IN, axes.CHANNELS_OUT),
      weight_norm=self.weight_norm,
    )
    dilation = self.dilation or (1,) * num_axes
    outputs = convolve(
      inputs.astype(self.dtype),
      kernel.astype(self.dtype),
      strides=self.strides or (1,) * num_axes,
      padding=tuple(
        ((taps - 1) // 2 * step,) * 2
        for taps, step in zip(self.kernel_size, dilation, strict=True)
      ),
      dilation=dilation,
      num_groups=self.num_groups,
    )
    if not self.use_bias:
      return outputs
    bias = parameters.param(
      self,
      'bias',
      nn.initializers.zeros,
      (self.features,),
      self.param_dtype,
      axes=(axes.CHANNELS_OUT,),
    )
    return outputs + bias.astype(self.dtype).reshape(
      (1,) * (inputs.ndim - 1) + (-1,)
    )


def convolve(
  inputs: Float[Array, 'batch *steps channels_in'],
  kernel: Float[Array, '*taps channels_in_group channels_out'],
  *,
  strides: tuple[int, ...],
  padding: tuple[tuple[int, int], ...],
  dilation: tuple[int, ...] | None = None,
  num_groups: int = 1,
) -> Float[Array, 'batch *out_steps channels_out']:
  """Convolves over the axes between the batch and the channels.

  Args:
    inputs: [batch, time, channels] or [batch, time, bins, channels].
    kernel: One axis of taps for each axis convolved over, then channels in and
      out; outputs of one group are adjacent.
    strides: Of each axis.
    padding: Zeros (before, after) each axis.
    dilation: Of each axis, 1 if left out; not along an axis with a stride.
    num_groups: Groups of channels that do not mix.

  Returns:
    The outputs, in the layout of the inputs.
  """
  dilation = (1,) * len(strides) if dilation is None else dilation
  one_axis = inputs.ndim == 3
  if one_axis:
    inputs, kernel = inputs[:, :, None], kernel[:, None]
    strides, dilation = (*strides, 1), (*dilation, 1)
    padding = (*padding, (0, 0))
  geometry = Geometry(
    strides=tuple(strides),
    padding=tuple(tuple(sides) for sides in padding),
    dilation=tuple(dilation),
    num_groups=num_groups,
  )
  outputs = _convolve(inputs, kernel, geometry)
  return outputs[:, :, 0] if one_axis else outputs


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    cpu=functools.partial(convolution_passes.forward, geometry=geometry),
    default=functools.partial(
      convolution_passes.xla_convolve, geometry=geometry
    ),
  )


def _convolve_fwd(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _convolve(inputs, kernel, geometry), (inputs, kernel)


def _convolve_bwd(
  geometry: Geometry,
  saved: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  # Apart, so that XLA can drop the one that nobody reads.
  passes = convolution_passes.input_gradient, convolution_passes.kernel_gradient
  return tuple(
    jax.lax.platform_dependent(
      *saved,
      cotangent,
      cpu=functools.partial(ours, geometry=geometry),
      default=functools.partial(
        convolution_passes.xla_gradient, geometry=geometry, wrt=index
      ),
    )
    for index, ours in enumerate(passes)
  )


_convolve.defvjp(_convolve_fwd, _convolve_bwd)
