# SPDX-License-Identifier: Apache-2.0
"""From the width of a tower to the joint space: MuLan (2022), section 3.1.

Shapes: [batch, width] in, [batch, embed] of length one out.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Array
from musiclm_jax.layers import dense

# Where nothing was heard there is no direction, and still a finite gradient.
_EPSILON = 1e-12


class Projection(nn.Module):
  """A linear map, and length one.

  Attributes:
    embed_dim: Of the joint space.
    dtype: Compute type of the map.
    param_dtype: Stored type.
  """

  embed_dim: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, pooled: Float[Array, 'batch width']
  ) -> Float[Array, 'batch embed']:
    embedding = dense.DenseGeneral(
      features=(self.embed_dim,),
      axes=(None, axes.EMBED),
      use_bias=True,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name='map',
    )(pooled)
    # Float32: products of these are divided by a small temperature.
    dtype = metrics.accumulation_dtype(embedding.dtype)
    embedding = embedding.astype(dtype)
    square = jnp.sum(jnp.square(embedding), axis=-1, keepdims=True)
    return embedding * jax.lax.rsqrt(square + _EPSILON)
