# SPDX-License-Identifier: Apache-2.0
"""Normalization over the width, in float32 whatever the compute type is.

RMSNorm: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019),
equation 4. LayerNorm: Ba et al. (2016), section 3. GroupNorm: Wu and He (2018),
equation 7; over the steps too, but never over the batch.

Shapes: [..., embed] in and out; of GroupNorm [batch, steps..., channels].
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from musiclm_jax import axes, metrics
from musiclm_jax.layers import parameters

_EPSILON = 1e-6


class RMSNorm(nn.Module):
  """Divides by the root mean square; one gain a channel, no bias.

  Attributes:
    dtype: Type of the outputs.
    param_dtype: Stored type.
  """

  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, '*lead embed']
  ) -> Float[Array, '*lead embed']:
    # Float32: squares of bfloat16 lose the small channels.
    values = inputs.astype(metrics.accumulation_dtype(inputs.dtype))
    mean_square = jnp.mean(jnp.square(values), axis=-1, keepdims=True)
    values = values * lax.rsqrt(mean_square + _EPSILON)
    return _scaled(self, values, nn.initializers.ones, 'scale')


class LayerNorm(nn.Module):
  """Subtracts the mean, divides by the deviation; a gain and a bias a channel.

  Attributes:
    epsilon: Added to the variance.
    dtype: Type of the outputs.
    param_dtype: Stored type.
  """

  epsilon: float = _EPSILON
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, '*lead embed']
  ) -> Float[Array, '*lead embed']:
    values = inputs.astype(metrics.accumulation_dtype(inputs.dtype))
    values = values - jnp.mean(values, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(values), axis=-1, keepdims=True)
    values = values * lax.rsqrt(variance + self.epsilon)
    bias = parameters.param(
      self,
      'bias',
      nn.initializers.zeros,
      inputs.shape[-1:],
      self.param_dtype,
      axes=(axes.EMBED,),
    )
    lead = (1,) * (inputs.ndim - 1)
    scaled = _scaled(self, values, nn.initializers.ones, 'scale')
    return scaled + bias.astype(self.dtype).reshape(*lead, -1)


class GroupNorm(nn.Module):
  """Normalizes each group of channels over all steps of an example.

  Attributes:
    num_groups: Groups that the channels divide into.
    scale_init: Of the gains.
    dtype: Type of the outputs.
    param_dtype: Stored type.
  """

  num_groups: int
  scale_init: Any = nn.initializers.ones
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch *steps channels']
  ) -> Float[Array, 'batch *steps channels']:
    batch, *_, channels = inputs.shape
    values = inputs.astype(metrics.accumulation_dtype(inputs.dtype))
    values = values.reshape(
      batch, -1, self.num_groups, channels // self.num_groups
    )
    mean = jnp.mean(values, axis=(1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(values - mean), axis=(1, 3), keepdims=True)
    gain, bias = (
      parameters.param(
        self,
        name,
        init,
        (channels,),
        self.param_dtype,
        axes=(axes.CHANNELS_OUT,),
      )
      .astype(values.dtype)
      .reshape(1, 1, *values.shape[2:])
      for name, init in (
        ('scale', self.scale_init),
        ('bias', nn.initializers.zeros),
      )
    )
    gain = gain * lax.rsqrt(variance + _EPSILON)  # [batch, 1, groups, channels]
    values = values * gain + (bias - mean * gain)
    return values.reshape(inputs.shape).astype(self.dtype)


def _scaled(
  module: Any, values: Float[Array, '*lead embed'], init: Any, name: str
) -> Float[Array, '*lead embed']:
  """Times the gain of `module`, in its compute type."""
  gain = parameters.param(
    module,
    name,
    init,
    values.shape[-1:],
    module.param_dtype,
    axes=(axes.EMBED,),
  )
  lead = (1,) * (values.ndim - 1)
  values = values * gain.astype(values.dtype).reshape(*lead, -1)
  return values.astype(module.dtype)
