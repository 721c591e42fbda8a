# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.layers import convolve


def _xla(inputs, kernel, *, strides, padding, dilation, num_groups):
  names = (
    ('NTC', 'TIO', 'NTC') if inputs.ndim == 3 else ('NHWC', 'HWIO', 'NHWC')
  )
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=strides,
    padding=padding,
    rhs_dilation=dilation,
    dimension_numbers=names,
    feature_group_count=num_groups,
  )


@pytest.mark.parametrize(
  ('in_shape', 'kernel_shape', 'options'),
  [
    (
      (2, 29, 12),
      (5, 4, 9),
      {
        'strides': (3,),
        'padding': ((2, 2),),
        'dilation': (1,),
        'num_groups': 3,
      },
    ),
    (
      (2, 13, 11, 5),
      (3, 4, 5, 7),
      {
        'strides': (1, 2),
        'padding': ((2, 2), (1, 1)),
        'dilation': (2, 1),
        'num_groups': 1,
      },
    ),
  ],
)
def test_convolution_and_its_gradients_equal_those_of_xla(
  in_shape, kernel_shape, options
):
  rng = np.random.default_rng(3)
  inputs = jnp.asarray(rng.normal(size=in_shape), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=kernel_shape), jnp.float32)

  def loss(conv):
    return jax.jit(
      jax.value_and_grad(
        lambda x, w: jnp.sum(jnp.sin(conv(x, w, **options))), argnums=(0, 1)
      )
    )(inputs, kernel)

  got, wanted = loss(convolve.convolve), loss(_xla)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    got,
    wanted,
  )


@pytest.mark.parametrize(('steps', 'wanted'), [(20, 5), (21, 6), (19, 5)])
def test_layer_divides_its_steps_by_the_stride(steps, wanted):
  layer = convolve.Convolution(
    features=8, kernel_size=(41,), strides=(4,), num_groups=2
  )
  inputs = jnp.ones((1, steps, 8))
  outputs, _ = jax.eval_shape(
    lambda: layer.init_with_output(jax.random.key(0), inputs)
  )
  assert outputs.shape == (1, wanted, 8)


def test_layer_is_centred_on_its_step():
  layer = convolve.Convolution(features=1, kernel_size=(5,), dilation=(3,))
  inputs = jnp.zeros((1, 29, 1)).at[0, 13].set(1.0)
  variables = layer.init(jax.random.key(0), inputs)
  heard = np.flatnonzero(np.asarray(layer.apply(variables, inputs))[0, :, 0])
  assert heard.tolist() == [13 - 6, 13 - 3, 13, 13 + 3, 13 + 6]


def test_layer_without_a_bias_is_linear():
  layer = convolve.Convolution(features=3, kernel_size=(5,), use_bias=False)
  inputs = jax.random.normal(jax.random.key(0), (2, 11, 4))
  variables = layer.init(jax.random.key(1), inputs)
  assert 'bias' not in variables['params']
  twice = layer.apply(variables, 2 * inputs)
  np.testing.assert_allclose(twice, 2 * layer.apply(variables, inputs))
