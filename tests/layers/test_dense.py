# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import axes
from musiclm_jax.checkpoints import storage
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


@pytest.mark.parametrize('num_rows', [1, 3])
@pytest.mark.parametrize(
  'shape, num_inputs', [((2, 11, 37), 1), ((11, 3, 7), 2)]
)
def test_int8_product_is_that_of_the_values_it_stores(
  num_rows, shape, num_inputs
):
  """Widths are no multiple of the terms that are summed together."""
  draws = np.random.default_rng(num_rows)
  kernel, scale = storage.quantize(draws.normal(size=shape).astype(np.float32))
  inputs = draws.normal(size=(num_rows, 1, *shape[-num_inputs:]))
  got = jax.jit(dense.int8_product, static_argnames='num_inputs')(
    inputs.astype(np.float32),
    *dense.int8_layout(kernel, scale, num_inputs=num_inputs),
    num_inputs=num_inputs,
  )
  wide = (kernel * scale.astype(np.float64)).reshape(*shape[:-num_inputs], -1)
  wanted = np.einsum(
    'bi,...i->b...', inputs.reshape(num_rows, -1), wide
  ).reshape(got.shape)
  np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize('num_rows, is_copied', [(1, False), (2, True)])
def test_a_loop_makes_no_wide_copy_of_int8_for_one_row(num_rows, is_copied):
  kernel, scale = np.ones((256, 256), np.int8), np.ones(256, np.float32)

  def run(inputs, kernel, scale):
    def step(_, hidden):
      return jnp.tanh(dense.int8_product(hidden, kernel, scale))

    return jax.lax.fori_loop(0, 7, step, inputs)

  program = jax.jit(run).lower(jnp.ones((num_rows, 256)), kernel, scale)
  temporaries = program.compile().memory_analysis().temp_size_in_bytes
  assert (temporaries >= 4 * kernel.size) == is_copied


def test_int8_layer_names_the_axes_of_its_values_and_scales():
  layer = dense.DenseGeneral(
    features=(5,),
    axes=(axes.EMBED, axes.HEADS, axes.KV),
    num_inputs=2,
    use_bias=True,
    param_dtype=jnp.int8,
  )
  boxed = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((7, 2, 3)))
  found = {
    name: (leaf.names, leaf.value.shape, leaf.value.dtype.name)
    for name, leaf in boxed['params'].items()
  }
  assert found == {
    'kernel': ((axes.HEADS, axes.KV, axes.EMBED), (2, 16, 5), 'int8'),
    'kernel_scale': ((axes.HEADS, axes.EMBED), (2, 5), 'float32'),
    'bias': ((axes.EMBED,), (5,), 'float32'),
  }


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
