# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import axes
from musiclm_jax.layers import dense
from musiclm_jax.training.partitioning import Partitioner


@pytest.mark.parametrize('num_rows', [3, 47])
def test_product_contracts_the_last_axes_of_both(num_rows):
  inputs = jax.random.normal(jax.random.key(0), (num_rows, 2, 5, 7))
  kernel = jax.random.normal(jax.random.key(1), (11, 13, 5, 7))
  np.testing.assert_allclose(
    dense.product(inputs, kernel, num_inputs=2),
    np.einsum('abik,opik->abop', inputs, kernel),
    rtol=1e-4,
    atol=1e-4,
  )


def test_bias_is_added_and_named_as_the_features():
  layer = dense.DenseGeneral(
    features=(2, 3), axes=(axes.HEADS, axes.KV, axes.EMBED), use_bias=True
  )
  boxed = layer.init(jax.random.key(0), jnp.ones((5, 7)))
  assert boxed['params']['bias'].names == (axes.HEADS, axes.KV)
  variables = meta.unbox(boxed)
  variables['params']['bias'] = jnp.arange(6.0).reshape(2, 3)
  np.testing.assert_array_equal(
    layer.apply(variables, jnp.zeros((5, 7)))[4], [[0, 1, 2], [3, 4, 5]]
  )


def test_each_stacked_map_starts_with_the_variance_of_its_own_inputs():
  layer = dense.DenseGeneral(
    features=(3, 64, 8), axes=(None, None, None, None), num_stacked=1
  )
  variables = meta.unbox(layer.init(jax.random.key(0), jnp.ones((2, 256))))
  deviation = np.std(variables['params']['kernel'], axis=(1, 2, 3))
  np.testing.assert_allclose(deviation, 1 / 16, rtol=0.02)


def test_a_map_to_several_axes_is_made_and_run_inside_a_mesh():
  layer = dense.DenseGeneral(
    features=(2, 4), axes=(axes.HEADS, axes.KV, axes.EMBED)
  )
  inputs = jnp.ones((8, 6))
  alone = layer.init_with_output(jax.random.key(0), inputs)[0]
  with Partitioner(data=2, fsdp=2, tensor=2).entered():
    outputs, boxed = jax.jit(layer.init_with_output)(jax.random.key(0), inputs)
  assert boxed['params']['kernel'].value.shape == (2, 4, 6)
  np.testing.assert_allclose(outputs, alone, rtol=1e-6)
