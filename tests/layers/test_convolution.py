# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from musiclm_jax.layers import convolution

CASES = (
  {'kernel_size': 7},
  {'kernel_size': 7, 'dilation': 3},
  {'kernel_size': 1},
  {'kernel_size': 10, 'stride': 5},
  {'kernel_size': 15, 'stride': 5},
)


def draw(*shape, seed=0, dtype=np.float32):
  return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def causal_conv(inputs, kernel, *, stride=1, dilation=1):
  """By the definition, one output step at a time."""
  taps = len(kernel)
  outputs = []
  for last in range(stride - 1, inputs.shape[1], stride):
    total = 0
    for tap in range(taps):
      step = last - (taps - 1 - tap) * dilation
      if step >= 0:
        total = total + inputs[:, step] @ kernel[tap]
    outputs.append(total)
  return np.stack(outputs, axis=1)


def init(layer, inputs):
  variables = layer.init(jax.random.key(3), inputs)
  return nn.unbox(variables)


def test_elu_is_the_paper_formula_with_its_gradient():
  x = jnp.array([-40.0, -3.0, -0.5, 0.0, 0.25, 90.0])
  expected = [np.expm1(-40.0), np.expm1(-3.0), np.expm1(-0.5), 0, 0.25, 90]
  np.testing.assert_allclose(convolution.elu(x), expected, atol=1e-7)
  slopes = jax.vmap(jax.grad(convolution.elu))(x)
  np.testing.assert_allclose(
    slopes, [np.exp(-40.0), np.exp(-3.0), np.exp(-0.5), 1, 1, 1], atol=1e-7
  )


@pytest.mark.parametrize('options', CASES, ids=str)
def test_a_causal_convolution_is_its_definition(options):
  layer = convolution.CausalConv(features=3, **options)
  inputs = draw(2, 35, 5)
  variables = init(layer, inputs)
  params = variables['params']
  kernel = convolution.fold_weight_norm(params)['weight']
  expected = causal_conv(
    inputs,
    np.asarray(kernel),
    stride=options.get('stride', 1),
    dilation=options.get('dilation', 1),
  )
  outputs = layer.apply(variables, inputs)
  np.testing.assert_allclose(outputs, expected, atol=1e-5)
  shifted = {'params': {**params, 'bias': jnp.arange(3.0)}}
  np.testing.assert_allclose(
    layer.apply(shifted, inputs), expected + np.arange(3.0), atol=1e-5
  )


@pytest.mark.parametrize('taps', (1, 2, 3))
def test_a_transposed_convolution_adds_a_kernel_at_each_input_step(taps):
  stride = 5
  layer = convolution.CausalTransposedConv(
    features=3, kernel_size=taps * stride, stride=stride
  )
  inputs = draw(2, 7, 11)
  variables = init(layer, inputs)
  kernel = np.asarray(
    convolution.fold_weight_norm(variables['params'])['weight']
  )
  expected = np.zeros((2, 7 * stride + (taps - 1) * stride, 3))
  for step in range(7):
    for tap in range(taps * stride):
      expected[:, step * stride + tap] += inputs[:, step] @ kernel[tap]
  outputs = layer.apply(variables, inputs)
  np.testing.assert_allclose(outputs, expected[:, : 7 * stride], atol=1e-5)


@pytest.mark.parametrize('dtype', (np.float32, np.float64))
@pytest.mark.parametrize('taps, dilation', ((1, 1), (2, 1), (7, 1), (7, 9)))
def test_gradients_are_those_of_the_convolution_of_xla(taps, dilation, dtype):
  with jax.enable_x64(dtype == np.float64):
    inputs = jnp.asarray(draw(3, 67, 5, dtype=dtype))
    kernel = jnp.asarray(draw(taps, 5, 2, seed=1, dtype=dtype))

    def reference(inputs, kernel):
      return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        (1,),
        'VALID',
        rhs_dilation=(dilation,),
        dimension_numbers=('NTC', 'TIO', 'NTC'),
      )

    def ours(inputs, kernel):
      return convolution.dilated_conv(inputs, kernel, dilation)

    expected, expected_pull_back = jax.vjp(reference, inputs, kernel)
    outputs, pull_back = jax.vjp(ours, inputs, kernel)
    cotangent = jnp.asarray(draw(*expected.shape, seed=2, dtype=dtype))
    atol = 1e-12 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(outputs, expected, atol=atol)
    for found, wanted in zip(
      pull_back(cotangent), expected_pull_back(cotangent), strict=True
    ):
      assert found.dtype == dtype
      np.testing.assert_allclose(found, wanted, atol=atol)


def test_weight_norm_is_the_formula_of_torch():
  v = np.array([[[3.0, 1.0], [4.0, 2.0]], [[0.0, 2.0], [0.0, 0.0]]], np.float32)
  g = np.array([10.0, 6.0], np.float32)
  # |v| is 5 for the first output channel and 3 for the second.
  expected = [[[6, 2], [8, 4]], [[0, 4], [0, 0]]]
  np.testing.assert_allclose(
    convolution.weight_normalized(v, g), expected, rtol=1e-6
  )


def test_a_weight_normalized_layer_starts_as_its_direction():
  layer = convolution.CausalConv(features=3, kernel_size=7)
  params = init(layer, draw(1, 31, 5))['params']
  assert set(params) == {'weight_v', 'weight_g', 'bias'}
  folded = convolution.fold_weight_norm({'inner': params})['inner']
  np.testing.assert_allclose(folded['weight'], params['weight_v'], rtol=1e-5)
  assert params['weight_g'].shape == (3,)


def test_folding_leaves_the_layer_as_it_was():
  inputs = draw(2, 35, 5)
  layer = convolution.CausalConv(features=3, kernel_size=10, stride=5)
  params = init(layer, inputs)['params']
  params['weight_g'] = jnp.array([0.5, -2.0, 7.0])
  plain = layer.clone(weight_norm=False)
  folded = convolution.fold_weight_norm(params)
  assert set(folded) == set(init(plain, inputs)['params'])
  outputs = layer.apply({'params': params}, inputs)
  np.testing.assert_allclose(
    plain.apply({'params': folded}, inputs), outputs, atol=1e-5
  )
  assert not np.allclose(outputs, plain.apply(init(plain, inputs), inputs))


def test_outputs_do_not_see_the_future():
  inputs = draw(2, 35, 5)
  changed = inputs.copy()
  changed[:, 20:] = 0
  for layer in (
    convolution.CausalConv(features=3, kernel_size=7, dilation=3),
    convolution.CausalConv(features=3, kernel_size=10, stride=5),
    convolution.CausalTransposedConv(features=3, kernel_size=10, stride=5),
  ):
    variables = init(layer, inputs)
    whole, cut = layer.apply(variables, inputs), layer.apply(variables, changed)
    past = 20 * whole.shape[1] // 35
    np.testing.assert_array_equal(whole[:, :past], cut[:, :past])
    assert not np.allclose(whole[:, past:], cut[:, past:])  # The probe works.


@hypothesis.settings(max_examples=4, deadline=None)
@hypothesis.given(st.lists(st.integers(1, 13), min_size=1, max_size=3))
def test_chunks_with_history_give_the_whole(lengths):
  stride = 5
  inputs = draw(2, sum(lengths) * stride, 3)
  for layer in (
    convolution.CausalConv(features=2, kernel_size=7, dilation=3),
    convolution.CausalConv(features=2, kernel_size=10, stride=stride),
    convolution.CausalTransposedConv(features=2, kernel_size=15, stride=stride),
  ):
    variables = init(layer, inputs)
    state, chunks, start = {}, [], 0
    for length in lengths:
      stop = start + length * stride
      chunk, state = layer.apply(
        {**variables, **state},
        inputs[:, start:stop],
        mutable=[convolution.HISTORY],
      )
      chunks.append(chunk)
      start = stop
    np.testing.assert_allclose(
      np.concatenate(chunks, axis=1),
      layer.apply(variables, inputs),
      atol=1e-5,
    )


def test_compute_type_is_the_layers_and_parameters_keep_theirs():
  layer = convolution.CausalConv(features=3, kernel_size=7, dtype=jnp.bfloat16)
  inputs = draw(2, 31, 5)
  variables = init(layer, inputs)
  assert layer.apply(variables, inputs).dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }


def test_what_does_not_fit_is_an_error_that_says_so():
  inputs = draw(1, 31, 2)
  down = convolution.CausalConv(features=2, kernel_size=10, stride=5)
  with pytest.raises(ValueError, match='multiple of 5 steps, not 31'):
    down.init(jax.random.key(0), inputs)
  with pytest.raises(ValueError, match='whole number of strides, not 9'):
    down.clone(kernel_size=9).init(jax.random.key(0), inputs)
  with pytest.raises(ValueError, match='not both'):
    down.clone(dilation=2).init(jax.random.key(0), inputs)
