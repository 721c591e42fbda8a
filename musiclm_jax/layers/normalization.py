# SPDX-License-Identifier: Apache-2.0
"""Normalization over the width, in float32 whatever the compute type is.

RMSNorm: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019),
equation 4. LayerNorm: Ba et al. (2016), section 3.

Shapes: [..., embed] in and out.
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
    dtype: Type of the outputs.
    param_dtype: Stored type.
  """

  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, '*lead embed']
  ) -> Float[Array, '*lead embed']:
    values = inputs.astype(metrics.accumulation_dtype(inputs.dtype))
    values = values - jnp.mean(values, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(values), axis=-1, keepdims=True)
    values = values * lax.rsqrt(variance + _EPSILON)
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
