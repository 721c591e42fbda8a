# SPDX-License-Identifier: Apache-2.0
"""Linear maps over any axes, with logical names and without biases by default.

A kernel is stored outputs first, [*features, *inputs], and made at that shape:
Flax's own DenseGeneral makes a flat one, which fails with logical axes inside a
mesh. Outputs first is what a CPU reads fastest when a decoder multiplies a few
rows; where there are many rows the order makes no difference.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.layers import parameters

# Below this many rows the kernel is the left operand: XLA's CPU product then
# goes through it row by row, in the order of memory.
_FEW_ROWS = 32


def product(
  inputs: Float[Array, '*lead_and_inputs'],
  kernel: Float[Array, '*features_and_inputs'],
  *,
  num_inputs: int = 1,
) -> Float[Array, '*lead_and_features']:
  """Contracts the last `num_inputs` axes of both.

  Args:
    inputs: [*lead, *inputs].
    kernel: [*features, *inputs].
    num_inputs: Axes that are summed over.

  Returns:
    [*lead, *features], in the type of the inputs.
  """
  num_lead = inputs.ndim - num_inputs
  num_features = kernel.ndim - num_inputs
  of_inputs = tuple(range(num_lead, inputs.ndim))
  of_kernel = tuple(range(num_features, kernel.ndim))
  num_rows = math.prod(inputs.shape[:num_lead])
  # Of a program for any batch the number is open, and may be large.
  if not isinstance(num_rows, int) or num_rows > _FEW_ROWS:
    return jax.lax.dot_general(
      inputs, kernel, ((of_inputs, of_kernel), ((), ()))
    )
  outputs = jax.lax.dot_general(
    kernel, inputs, ((of_kernel, of_inputs), ((), ()))
  )  # [*features, *lead]
  order = (*range(num_features, outputs.ndim), *range(num_features))
  return jnp.transpose(outputs, order)


class DenseGeneral(nn.Module):
  """A linear map of the last axes.

  Attributes:
    features: Sizes of the axes that come out.
    axes: Logical names of [*features, *inputs].
    num_inputs: Axes that go in, counted from the last.
    num_stacked: Leading features that tell several maps apart (query, key and
      value, say); each is initialised as a map of its own.
    use_bias: Whether a bias is added.
    kernel_scale: Variance of the kernel's first values, times the inputs.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  features: tuple[int, ...]
  axes: tuple[str | None, ...]
  num_inputs: int = 1
  num_stacked: int = 0
  use_bias: bool = False
  kernel_scale: float = 1.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, '*lead_and_inputs']
  ) -> Float[Array, '*lead_and_features']:
    shape = (*self.features, *inputs.shape[-self.num_inputs :])
    num_features = len(self.features)
    kernel = parameters.param(
      self,
      'kernel',
      nn.initializers.variance_scaling(
        self.kernel_scale,
        'fan_in',
        'truncated_normal',
        in_axis=tuple(range(num_features, len(shape))),
        out_axis=tuple(range(self.num_stacked, num_features)),
        batch_axis=tuple(range(self.num_stacked)),
      ),
      shape,
      self.param_dtype,
      axes=self.axes,
    )
    outputs = product(
      inputs.astype(self.dtype),
      kernel.astype(self.dtype),
      num_inputs=self.num_inputs,
    )
    if not self.use_bias:
      return outputs
    bias = parameters.param(
      self,
      'bias',
      nn.initializers.zeros,
      self.features,
      self.param_dtype,
      axes=self.axes[:num_features],
    )
    lead = (1,) * (outputs.ndim - num_features)
    return outputs + bias.astype(self.dtype).reshape(lead + self.features)
