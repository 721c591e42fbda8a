# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.layers import convolution
from musiclm_jax.training import products


def zeros(*shape):
  return np.zeros(shape, np.float32)


def test_a_product_counts_two_a_multiply_add():
  assert (
    products.flops_of(jnp.matmul, zeros(3, 5), zeros(5, 7)) == 2 * 3 * 5 * 7
  )
  batched = products.flops_of(
    lambda a, b: jnp.einsum('bij,bkj->bik', a, b),
    zeros(2, 3, 5),
    zeros(2, 7, 5),
  )
  assert batched == 2 * 2 * 3 * 5 * 7


def conv(inputs, kernel, **options):
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    **{'window_strides': (1,), 'padding': 'VALID', **options},
    dimension_numbers=('NTC', 'TIO', 'NTC'),
  )


def test_a_convolution_counts_its_taps_at_each_output():
  count = products.flops_of(conv, zeros(2, 31, 5), zeros(7, 5, 3))
  assert count == 2 * (2 * 25 * 3) * 7 * 5
  strided = products.flops_of(
    lambda x, k: conv(x, k, window_strides=(3,)),
    zeros(2, 31, 5),
    zeros(7, 5, 3),
  )
  assert strided == 2 * (2 * 9 * 3) * 7 * 5
  grouped = products.flops_of(
    lambda x, k: conv(x, k, feature_group_count=5),
    zeros(2, 31, 5),
    zeros(7, 1, 10),
  )
  assert grouped == 2 * (2 * 25 * 10) * 7


def test_zeros_between_taps_do_not_count():
  transposed = products.flops_of(
    lambda x, k: conv(x, k, lhs_dilation=(5,), padding=((9, 9),)),
    zeros(1, 31, 3),
    zeros(10, 3, 2),
  )
  # 160 outputs, of whose ten taps two meet an input.
  assert transposed == 2 * (160 * 2) * 2 * 3


def test_loops_count_every_round_and_calls_what_they_call():
  def rounds(x):
    return jax.lax.scan(
      lambda c, _: (jax.jit(jnp.matmul)(c, x), None), x, length=11
    )

  assert products.flops_of(rounds, zeros(3, 3)) == 11 * 2 * 27


def test_of_several_forms_the_cheapest_counts():
  def either(x):
    return jax.lax.platform_dependent(
      x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x
    )

  assert products.flops_of(either, zeros(3, 3)) == 2 * 27


def test_a_layer_with_its_own_gradient_counts():
  layer = convolution.CausalConv(features=3, kernel_size=10, stride=5)
  inputs = zeros(2, 35, 7)
  variables = layer.init(jax.random.key(0), inputs)
  count = products.flops_of(layer.apply, variables, inputs)
  assert count == 2 * (2 * 7 * 3) * 10 * 7
