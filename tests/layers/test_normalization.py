# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.layers.normalization import LayerNorm, RMSNorm


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


@pytest.mark.parametrize('layer', [RMSNorm, LayerNorm])
def test_half_precision_is_normalized_in_float32(layer):
  inputs = jax.random.normal(jax.random.key(0), (3, 101)).astype(jnp.bfloat16)
  half = layer(dtype=jnp.bfloat16)
  variables = half.init(jax.random.key(1), inputs)
  outputs = half.apply(variables, inputs)
  assert outputs.dtype == jnp.bfloat16
  whole = layer().apply(variables, inputs.astype(jnp.float32))
  np.testing.assert_array_equal(outputs, whole.astype(jnp.bfloat16))
