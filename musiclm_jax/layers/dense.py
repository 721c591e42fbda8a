# SPDX-License-Identifier: Apache-2.0
"""Linear maps over any axes, with logical names and without biases by default.

A kernel is stored outputs first, [*features, *inputs], and made at that shape:
Flax's own DenseGeneral makes a flat one, which fails with logical axes inside a
mesh. Outputs first is what a CPU reads fastest when a decoder multiplies a few
rows; where there are many rows the order makes no difference.

A decoder's kernel may be int8 on the grid of `checkpoints.storage`: a float32
scale for each output, and each input axis but the last. It is stored inputs
first, since XLA's CPU then vectorizes its sums over the outputs.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int8

from musiclm_jax.layers import parameters

# Below this many rows the kernel is the left operand: XLA's CPU product then
# goes through it row by row, in the order of memory.
_FEW_ROWS = 32
# Terms of a sum that XLA's CPU makes one vectorized loop: of more it makes two.
_NUM_TERMS = 16


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


def int8_layout(
  values: Int8[np.ndarray, '*features_and_inputs'],
  scale: Float[np.ndarray, '*features_and_one'],
  *,
  num_inputs: int,
) -> tuple[
  Int8[np.ndarray, '*inputs_and_features'],
  Float[np.ndarray, '*groups_and_features'],
]:
  """A kernel in int8 as `int8_product` reads it.

  Args:
    values: [*features, *inputs].
    scale: Of each vector along the last axis.
    num_inputs: Axes that are summed over.

  Returns:
    The values as [*inputs, *features], the last input with zeros after it up to
    a multiple of the terms that are summed together; and the scales, whose axes
    are the same but for the last input, which they have not.
  """
  num_features = values.ndim - num_inputs
  order = (*range(num_features, values.ndim), *range(num_features))
  room = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % _NUM_TERMS)]
  scale_order = [axis for axis in order if axis != values.ndim - 1]
  return (
    np.ascontiguousarray(np.pad(values, room).transpose(order)),
    np.ascontiguousarray(scale[..., 0].transpose(scale_order)),
  )


def int8_product(
  inputs: Float[Array, '*lead_and_inputs'],
  values: Int8[Array, '*inputs_and_features'],
  scale: Float[Array, '*groups_and_features'],
  *,
  num_inputs: int = 1,
) -> Float[Array, '*lead_and_features']:
  """As `product`, of a kernel that a single row leaves in int8.

  For several rows a loop of steps converts it once, and takes the memory of one
  that was float32; 8 rows were decoded at half its speed (docs/performance.md).

  Args:
    inputs: [*lead, *inputs].
    values: From `int8_layout`.
    scale: From `int8_layout`.
    num_inputs: Axes that are summed over.

  Returns:
    [*lead, *features], in the type of the inputs.
  """
  converted = functools.partial(_converted_product, num_inputs=num_inputs)
  # Of a program for any batch the number of rows is open.
  if inputs.shape[:-num_inputs] != (1,) * (inputs.ndim - num_inputs):
    return converted(inputs, values, scale)
  return jax.lax.platform_dependent(
    inputs,
    values,
    scale,
    cpu=functools.partial(_product_of_row, num_inputs=num_inputs),
    default=converted,
  )


def _converted_product(
  inputs: Array, values: Array, scale: Array, *, num_inputs: int
) -> Array:
  """With the kernel in the type of the inputs, whatever they are."""
  values = jax.lax.slice_in_dim(
    values, 0, inputs.shape[-1], axis=num_inputs - 1
  )
  scale = jnp.expand_dims(scale, num_inputs - 1).astype(inputs.dtype)
  kernel = values.astype(inputs.dtype) * jnp.broadcast_to(scale, values.shape)
  order = (*range(num_inputs, kernel.ndim), *range(num_inputs))
  return product(inputs, kernel.transpose(order), num_inputs=num_inputs)


def _product_of_row(
  row: Array, values: Array, scale: Array, *, num_inputs: int
) -> Array:
  """Of a single row: sums that XLA's CPU vectorizes over the outputs."""
  lead, features = row.shape[:-num_inputs], values.shape[num_inputs:]
  num_groups = math.prod(values.shape[: num_inputs - 1])  # A scale each.
  width = values.shape[num_inputs - 1]
  shape = (num_groups, _NUM_TERMS, width // _NUM_TERMS)
  row = row.reshape(num_groups, -1)
  row = jnp.pad(row, ((0, 0), (0, width - row.shape[1]))).reshape(*shape, 1)
  values = values.reshape(*shape, -1)
  # Else XLA converts them before a loop of steps, and each reads float32.
  row, values = jax.lax.optimization_barrier((row, values))
  sums = values.astype(row.dtype) * row  # [groups, terms, rest, outputs]
  while sums.shape[1] > 1:
    half = sums.shape[1] // 2
    sums = sums[:, :half] + sums[:, half:]
  # Apart from the sum of the rest: together they are not vectorized.
  sums = jnp.sum(jax.lax.optimization_barrier(sums[:, 0]), axis=1)
  scale = scale.reshape(num_groups, -1).astype(row.dtype)
  return jnp.sum(sums * scale, axis=0).reshape(*lead, *features)


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
    param_dtype: Stored type; int8 for a kernel of it with a scale, whose values
      are given and not made.
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
    inputs = inputs.astype(self.dtype)
    is_int8 = self.param_dtype == jnp.int8
    outputs = self._int8(inputs) if is_int8 else self._floating(inputs)
    if not self.use_bias:
      return outputs
    num_features = len(self.features)
    bias = parameters.param(
      self,
      'bias',
      nn.initializers.zeros,
      self.features,
      jnp.float32 if is_int8 else self.param_dtype,
      axes=self.axes[:num_features],
    )
    lead = (1,) * (outputs.ndim - num_features)
    return outputs + bias.astype(self.dtype).reshape(lead + self.features)

  def _floating(self, inputs: Array) -> Array:
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
    return product(
      inputs, kernel.astype(self.dtype), num_inputs=self.num_inputs
    )

  def _int8(self, inputs: Array) -> Array:
    *groups, width = inputs.shape[-self.num_inputs :]
    num_features = len(self.features)
    of_features, of_inputs = (
      self.axes[:num_features],
      self.axes[num_features:],
    )
    values = parameters.param(
      self,
      'kernel',
      nn.initializers.zeros,
      (*groups, width + -width % _NUM_TERMS, *self.features),
      jnp.int8,
      axes=(*of_inputs, *of_features),
    )
    scale = parameters.param(
      self,
      'kernel_scale',
      nn.initializers.ones,
      (*groups, *self.features),
      jnp.float32,
      axes=(*of_inputs[:-1], *of_features),
    )
    return int8_product(inputs, values, scale, num_inputs=self.num_inputs)
