# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.mulan import encoder
from tests.mulan import toys

LENGTH = 7


def config(**changes):
  return toys.text_encoder(num_layers=2, dropout_rate=0.0, **changes)


def embedded(seed=0):
  return jax.random.normal(jax.random.key(seed), (2, LENGTH, 16))


def variables(sizes):
  mask = np.ones((2, LENGTH), bool)
  init = encoder.Encoder(sizes).init
  return toys.fill(init, embedded(), valid_mask=mask)


@pytest.mark.parametrize('norm', ['before', 'after'])
def test_everything_valid_is_seen_from_everywhere_and_nothing_else(norm):
  sizes = config(norm=norm)
  apply = jax.jit(encoder.Encoder(sizes).apply)
  weights = variables(sizes)
  mask = np.arange(LENGTH) < np.array([[LENGTH], [5]])
  wanted = np.asarray(apply(weights, embedded(), valid_mask=mask))
  last = np.array(embedded())
  last[:, -1] *= -1  # A norm takes off what is added to all channels.
  got = np.asarray(apply(weights, last, valid_mask=mask))
  assert np.abs(got - wanted)[0].max(-1).min() > 1e-6
  np.testing.assert_array_equal(got[1, :5], wanted[1, :5])


@pytest.mark.slow
def test_a_scan_over_the_layers_and_remat_change_nothing():
  sizes = config()
  weights = variables(sizes)
  mask = np.ones((2, LENGTH), bool)
  layers = [weights['params'][f'layer_{n}'] for n in range(2)]
  stacked = {
    'params': {'layers': jax.tree.map(lambda *x: jnp.stack(x), *layers)}
  }
  scanned = dataclasses.replace(sizes, scan_layers=True, remat=True)
  assert jax.tree.map(jnp.shape, variables(scanned)) == jax.tree.map(
    jnp.shape, stacked
  )

  def loss(sizes, weights):
    made = encoder.Encoder(sizes).apply(weights, embedded(), valid_mask=mask)
    return jnp.sum(jnp.sin(3 * made))

  slopes = [
    jax.jit(jax.grad(loss, argnums=1), static_argnums=0)(sizes, weights)
    for sizes, weights in ((sizes, weights), (scanned, stacked))
  ]
  for number in range(2):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      slopes[0]['params'][f'layer_{number}'],
      jax.tree.map(lambda x: x[number], slopes[1]['params']['layers']),  # noqa: B023
    )


def test_dropout_is_on_where_there_is_a_key():
  sizes = toys.text_encoder(dropout_rate=0.5)
  weights = variables(sizes)
  mask = np.ones((2, LENGTH), bool)
  apply = jax.jit(encoder.Encoder(sizes).apply)
  still = apply(weights, embedded(), valid_mask=mask)
  rngs = {'dropout': jax.random.key(2)}
  moved = apply(weights, embedded(), valid_mask=mask, rngs=rngs)
  assert not np.allclose(still, moved)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'num_heads': 3}, '16 does not divide among 3 heads'),
    ({'norm': 'around'}, "norm is 'around'.*'before', 'after'"),
    ({'attention': 'flash'}, "attention is 'flash'"),
  ],
)
def test_what_contradicts_itself_is_an_error(changes, message):
  with pytest.raises(ValueError, match=message):
    toys.text_encoder(**changes)
