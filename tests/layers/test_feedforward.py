# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax.layers.feedforward import FeedForward

INPUTS = jax.random.normal(jax.random.key(0), (2, 3, 5))


def variables_of(layer):
  return meta.unbox(layer.init(jax.random.key(1), INPUTS))


def test_gated_layer_is_the_activated_gate_times_the_value():
  layer = FeedForward(mlp_dim=7)
  variables = variables_of(layer)
  gate, value = variables['params']['wide']['kernel']
  narrow = variables['params']['narrow']['kernel']
  wanted = (jax.nn.gelu(INPUTS @ gate.T) * (INPUTS @ value.T)) @ narrow.T
  np.testing.assert_allclose(
    layer.apply(variables, INPUTS), wanted, rtol=1e-5, atol=1e-6
  )


def test_plain_layer_with_biases_is_the_activation_between_two_products():
  layer = FeedForward(
    mlp_dim=7, activation=jax.nn.swish, is_gated=False, use_bias=True
  )
  variables = jax.tree.map(lambda leaf: leaf + 0.1, variables_of(layer))
  wide, narrow = variables['params']['wide'], variables['params']['narrow']
  hidden = INPUTS @ wide['kernel'][0].T + wide['bias'].reshape(1, 1, -1)
  wanted = jax.nn.swish(hidden) @ narrow['kernel'].T + narrow['bias'].reshape(
    1, 1, -1
  )
  np.testing.assert_allclose(
    layer.apply(variables, INPUTS), wanted, rtol=1e-5, atol=1e-6
  )


def test_dropout_is_on_only_where_a_key_is_given():
  layer = FeedForward(mlp_dim=7, dropout_rate=0.5)
  variables = variables_of(layer)
  plain = layer.apply(variables, INPUTS)

  def dropped(seed):
    rngs = {'dropout': jax.random.key(seed)}
    return layer.apply(variables, INPUTS, rngs=rngs)

  assert not jnp.allclose(dropped(0), plain)
  assert not jnp.allclose(dropped(0), dropped(1))
  np.testing.assert_array_equal(dropped(0), dropped(0))
