# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.mulan import resnet
from tests.mulan import toys

CONFIG = resnet.ResNetConfig(blocks=(1, 1), channels=4, num_groups=2)
FRAMES, MELS = 53, 19


@functools.cache
def body():
  """A body of random weights, compiled."""
  module = CONFIG.make(name='body')
  features, mask = inputs()
  params = toys.fill(module.init, features, frame_mask=mask)
  return jax.jit(
    lambda features, mask: module.apply(params, features, frame_mask=mask)
  )


def inputs():
  features = np.random.default_rng(5).normal(size=(2, FRAMES, MELS))
  return jnp.asarray(features, jnp.float32), np.ones((2, FRAMES), bool)


def test_largest_of_three_by_three_is_that_of_the_library():
  values = jax.random.normal(jax.random.key(0), (2, 13, 8, 3))
  np.testing.assert_array_equal(
    resnet.max_pool(values),
    nn.max_pool(values, (3, 3), (2, 2), ((1, 1), (1, 1))),
  )


def test_a_block_is_what_its_equations_say():
  config = resnet.ResNetConfig(blocks=(1,), channels=4, num_groups=2)
  features, mask = inputs()
  module = config.make(name='body')
  params = toys.fill(module.init, features, frame_mask=mask)['params']

  def convolve(values, layer, stride=1):
    kernel = layer['weight']
    reach = (kernel.shape[0] - 1) // 2
    return jax.lax.conv_general_dilated(
      values,
      kernel,
      (stride, stride),
      ((reach, reach),) * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  def norm(values, layer):
    grouped = values.reshape(len(values), -1, 2, values.shape[-1] // 2)
    mean = grouped.mean((1, 3), keepdims=True)
    deviation = jnp.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)
    values = ((grouped - mean) / deviation).reshape(values.shape)
    gain, bias = (
      layer[name].reshape(1, 1, 1, -1) for name in ('scale', 'bias')
    )
    return values * gain + bias

  hidden = convolve(features[..., None], params['stem'], 2)
  hidden = resnet.max_pool(jax.nn.relu(norm(hidden, params['stem_norm'])))
  block = params['stage_0_block_0']
  made = hidden
  for name in ('down', 'middle'):
    made = jax.nn.relu(norm(convolve(made, block[name]), block[f'{name}_norm']))
  made = norm(convolve(made, block['up']), block['up_norm'])
  kept = norm(convolve(hidden, block['shortcut']), block['shortcut_norm'])
  wanted = jax.nn.relu(made + kept).mean((1, 2))
  apply = jax.jit(module.apply)
  got = apply({'params': params}, features, frame_mask=mask)
  np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_one_example_does_not_see_another():
  features, mask = inputs()
  apply = body()
  other = np.stack([features[0], features[1] * 3 + 1])
  np.testing.assert_array_equal(apply(other, mask)[0], apply(features, mask)[0])
  assert not np.allclose(apply(other, mask)[1], apply(features, mask)[1])


def test_the_mean_leaves_out_steps_of_padding_alone():
  apply = body()
  features, mask = inputs()
  half = mask & (np.arange(FRAMES) < 20)
  assert CONFIG.stride == 8
  same = mask & (np.arange(FRAMES) < 24)  # The same three steps.
  np.testing.assert_array_equal(apply(features, half), apply(features, same))
  assert not np.allclose(apply(features, half), apply(features, mask))
  assert not np.any(apply(features, mask & False))


def test_channels_that_make_no_groups_are_an_error():
  with pytest.raises(ValueError, match='8 channels do not divide into 3'):
    resnet.ResNetConfig(channels=8, num_groups=3)
