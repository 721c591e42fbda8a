# SPDX-License-Identifier: Apache-2.0
"""The feed-forward layer of a Transformer, gated or plain.

Gated: Shazeer, "GLU Variants Improve Transformer" (2020), equation 6, which is
T5 1.1's with GELU. The gate and the value are one product. Dropout is on where
a 'dropout' key is given.

Shapes: [batch, length, embed] in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax import axes
from musiclm_jax.layers import dense


class FeedForward(nn.Module):
  """Wide and back: W_o (act(W_g x) * W_v x), or W_o act(W x) if not gated.

  Attributes:
    mlp_dim: Hidden width.
    activation: Elementwise.
    is_gated: Whether a second product is multiplied with the activation.
    use_bias: Whether both products add a bias.
    dropout_rate: Share of the hidden channels that are dropped.
    dtype: Compute type.
    param_dtype: Stored type.
  """

  mlp_dim: int
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  is_gated: bool = True
  use_bias: bool = False
  dropout_rate: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: Float[Array, 'batch length embed']
  ) -> Float[Array, 'batch length embed']:
    options = {
      'use_bias': self.use_bias,
      'dtype': self.dtype,
      'param_dtype': self.param_dtype,
    }
    hidden = dense.DenseGeneral(
      features=(2 if self.is_gated else 1, self.mlp_dim),
      axes=(None, axes.MLP, axes.EMBED),
      num_stacked=1,
      name='wide',
      **options,
    )(inputs)  # [batch, length, gate and value, mlp]
    hidden = nn.with_logical_constraint(
      hidden, (axes.BATCH, axes.LENGTH, None, axes.MLP)
    )
    activated = self.activation(hidden[:, :, 0])
    if self.is_gated:
      activated = activated * hidden[:, :, 1]
    activated = nn.Dropout(
      self.dropout_rate, deterministic=not self.has_rng('dropout')
    )(activated)
    return dense.DenseGeneral(
      features=(inputs.shape[-1],),
      axes=(axes.EMBED, axes.MLP),
      name='narrow',
      **options,
    )(activated)
