# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.layers.normalization import (
  GroupNorm,
  LayerNorm,
  RMSNorm,
)


def apply(layer, inputs, **params):
  variables = meta.unbox(layer.init(jax.random.key(0), inputs))
  assert {name: leaf.shape for name, leaf in variables['params'].items()} == {
    name: (inputs.shape[-1],) for name in params
  }
  params = {name: jnp.asarray(values) for name, values in params.items()}
  return layer.apply({'params': params}, inputs)


def test_root_mean_square_is_divided_out_and_the_gain_multiplied_in():
  # Root mean square of (3, 4, 0, 0, 0) is √5.
  outputs = apply(
    RMSNorm(), jnp.asarray([[3.0, 4, 0, 0, 0]]), scale=[1.0, 2, 3, 4, 5]
  )
  np.testing.assert_allclose(
    outputs, [[3 / 5**0.5, 8 / 5**0.5, 0, 0, 0]], rtol=1e-6
  )


def test_layer_norm_centres_and_shifts():
  outputs = apply(
    LayerNorm(), jnp.asarray([[1.0, 3]]), scale=[1.0, 2], bias=[10.0, 20]
  )
  np.testing.assert_allclose(outputs, [[9, 22]], rtol=1e-5)


def test_layer_norm_adds_its_epsilon_to_the_variance():
  # Variance 1 and epsilon 3: the deviation counts as 2.
  outputs = apply(
    LayerNorm(epsilon=3.0),
    jnp.asarray([[1.0, 3]]),
    scale=[1.0, 1],
    bias=[0.0, 0],
  )
  np.testing.assert_allclose(outputs, [[-0.5, 0.5]], rtol=1e-6)


def test_group_norm_takes_steps_and_channels_of_a_group_together():
  # Two steps of two groups of two channels; the groups' values are 0, 2, 4, 6
  # (mean 3, variance 5) and 10 everywhere.
  inputs = jnp.asarray([[[0.0, 2, 10, 10], [4, 6, 10, 10]]])
  outputs = apply(
    GroupNorm(num_groups=2),
    inputs,
    scale=[1.0, 2, 1, 1],
    bias=[0.0, 1, 7, 0],
  )
  wanted = np.array([[[-3, -2, 0, 0], [1, 6, 0, 0]]]) / 5**0.5
  wanted += [0, 1, 7, 0]
  np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-5)


def test_group_norm_keeps_examples_apart():
  inputs = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
  layer = GroupNorm(num_groups=2)
  variables = layer.init(jax.random.key(1), inputs)
  other = inputs.at[1].set(inputs[1] ** 2)
  got = layer.apply(variables, other)
  wanted = layer.apply(variables, inputs)
  np.testing.assert_array_equal(got[0], wanted[0])
  assert not np.allclose(got[1], wanted[1])


@pytest.mark.parametrize('layer', [RMSNorm, LayerNorm])
def test_half_precision_is_normalized_in_float32(layer):
  inputs = jax.random.normal(jax.random.key(0), (3, 101)).astype(jnp.bfloat16)
  half = layer(dtype=jnp.bfloat16)
  variables = half.init(jax.random.key(1), inputs)
  outputs = half.apply(variables, inputs)
  assert outputs.dtype == jnp.bfloat16
  whole = layer().apply(variables, inputs.astype(jnp.float32))
  np.testing.assert_array_equal(outputs, whole.astype(jnp.bfloat16))
