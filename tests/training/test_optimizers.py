# SPDX-License-Identifier: Apache-2.0
"""Schedules and optimizers, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musiclm_jax.training import optimizers


def updates(optimizer, params, gradients):
  """The change of `params` that each of the gradients makes."""
  state = optimizer.init(params)
  changes = []
  for gradient in gradients:
    change, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, change)
    changes.append(change)
  return changes


def rates(schedule, counts):
  return [float(jax.jit(schedule)(jnp.asarray(count))) for count in counts]


def test_constant_rate_rises_over_the_warm_up_and_stays():
  schedule = optimizers.constant(learning_rate=0.5, warmup_steps=4)
  np.testing.assert_allclose(
    rates(schedule, [0, 1, 3, 4, 999]), [0.125, 0.25, 0.5, 0.5, 0.5]
  )
  assert rates(optimizers.constant(learning_rate=0.5), [0, 7]) == [0.5, 0.5]


def test_inverse_square_root_halves_when_the_count_is_fourfold():
  schedule = optimizers.inverse_square_root(learning_rate=3.0, warmup_steps=10)
  np.testing.assert_allclose(
    rates(schedule, [0, 4, 9, 39, 999]), [0.3, 1.5, 3.0, 1.5, 0.3], rtol=1e-6
  )


def test_cosine_is_at_half_height_half_way():
  schedule = optimizers.cosine(
    learning_rate=2.0, num_steps=105, warmup_steps=5, final_share=0.1
  )
  quarter = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))
  np.testing.assert_allclose(
    rates(schedule, [0, 4, 5, 30, 55, 105, 500]),
    [0.4, 2.0, 2.0, 2 * quarter, 2 * 0.55, 0.2, 0.2],
    rtol=1e-6,
  )


def test_cosine_shorter_than_its_warm_up_is_an_error():
  with pytest.raises(ValueError, match='num_steps counts both'):
    optimizers.cosine(learning_rate=1.0, num_steps=5, warmup_steps=5)


def test_first_update_of_adam_is_the_rate_whatever_the_gradient():
  optimizer = optimizers.adam(learning_rate=0.25, betas=(0.5, 0.9))
  (change,) = updates(optimizer, jnp.zeros(2), [jnp.asarray([1e-3, -7.0])])
  np.testing.assert_allclose(change, [-0.25, 0.25], rtol=1e-4)


def test_betas_of_adam_are_as_by_hand():
  optimizer = optimizers.adam(learning_rate=1.0, betas=(0.5, 0.75))
  _, second = updates(
    optimizer, jnp.zeros(1), [jnp.asarray([1.0]), jnp.asarray([3.0])]
  )
  first_moment = (0.5 * 0.5 * 1 + 0.5 * 3) / (1 - 0.5**2)
  second_moment = (0.75 * 0.25 * 1 + 0.25 * 9) / (1 - 0.75**2)
  np.testing.assert_allclose(
    second, [-first_moment / math.sqrt(second_moment)], rtol=1e-5
  )


def test_weights_decay_and_biases_do_not():
  optimizer = optimizers.adamw(learning_rate=0.5, weight_decay=0.1)
  params = {'kernel': jnp.full((2, 3), 4.0), 'bias': jnp.full(3, 4.0)}
  (change,) = updates(optimizer, params, [jax.tree.map(jnp.zeros_like, params)])
  np.testing.assert_allclose(change['kernel'], -0.5 * 0.1 * 4.0, rtol=1e-6)
  np.testing.assert_array_equal(change['bias'], 0.0)


def test_gradient_is_clipped_by_the_norm_of_all_of_it():
  # Without clipping the second moments, hence the second updates, differ.
  clipped = optimizers.adam(learning_rate=1.0, clip_norm=2.0)
  bare = optimizers.adam(learning_rate=1.0)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  large = {'a': jnp.asarray([3.0]), 'b': jnp.asarray([4.0])}
  small = {'a': jnp.asarray([0.6]), 'b': jnp.asarray([0.8])}
  got = updates(clipped, params, [large, small])[1]
  by_hand = updates(
    bare, params, [jax.tree.map(lambda g: g * 2 / 5, large), small]
  )[1]
  unclipped = updates(bare, params, [large, small])[1]
  np.testing.assert_allclose(got['a'], by_hand['a'], rtol=1e-5)
  assert abs(float(unclipped['a'][0] - by_hand['a'][0])) > 0.01


def test_clip_norm_of_nought_is_an_error():
  with pytest.raises(ValueError, match='clip_norm is 0'):
    optimizers.adafactor(learning_rate=1.0, clip_norm=0.0)


def test_parts_of_a_model_may_learn_slower():
  params = {'fast': {'a': jnp.ones(2)}, 'slow': {'b': jnp.ones(3)}}
  gradients = jax.tree.map(lambda p: 3 * p, params)
  plain = optimizers.adam(learning_rate=0.1)
  slowed = optimizers.slowed(plain, parts=('slow',), factor=0.25)
  (wanted,) = updates(plain, params, [gradients])
  (got,) = updates(slowed, params, [gradients])
  np.testing.assert_array_equal(got['fast']['a'], wanted['fast']['a'])
  np.testing.assert_allclose(got['slow']['b'], 0.25 * wanted['slow']['b'])


def test_a_part_that_the_model_has_not_is_an_error():
  slowed = optimizers.slowed(
    optimizers.adam(learning_rate=0.1), parts=('slow', 'odd'), factor=0.5
  )
  with pytest.raises(ValueError, match=r"\['odd'\] are to learn slower"):
    slowed.init({'fast': jnp.ones(2), 'slow': jnp.ones(3)})


def test_adafactor_keeps_rows_and_columns_of_large_matrices_only():
  optimizer = optimizers.adafactor(learning_rate=0.1)
  params = {'large': jnp.ones((128, 256)), 'small': jnp.ones((3, 5))}
  sizes = sorted(
    leaf.size for leaf in jax.tree.leaves(optimizer.init(params)) if leaf.ndim
  )
  assert sizes == [1, 1, 1, 15, 128, 256]


@pytest.mark.parametrize(
  'make', [optimizers.adam, optimizers.adamw, optimizers.adafactor]
)
def test_every_optimizer_descends_a_bowl(make):
  optimizer = make(
    learning_rate=optimizers.constant(learning_rate=0.05), clip_norm=1.0
  )
  params = jnp.asarray([[3.0, -2.0]])
  state = optimizer.init(params)
  for _ in range(30):
    change, state = optimizer.update(2 * params, state, params)
    params = optax.apply_updates(params, change)
  assert float(jnp.sum(params**2)) < 13 / 2


@pytest.mark.parametrize('clip_norm', [None, 1.0])
def test_the_rate_of_an_update_is_kept_for_the_logs(clip_norm):
  def schedule(count):
    return 0.5 / (count + 1)

  optimizer = optimizers.slowed(
    optimizers.adamw(learning_rate=schedule, clip_norm=clip_norm),
    parts=['slow'],
    factor=0.1,
  )
  params = {'slow': jnp.ones(3)}
  state = optimizer.init(params)
  for expected in (0.5, 0.25):
    _, state = optimizer.update(params, state, params)
    assert float(optimizers.learning_rate_of(state)) == expected


def test_an_optimizer_that_keeps_no_rate_has_none():
  state = optax.sgd(0.1, momentum=0.9).init({'weight': jnp.ones(2)})
  assert optimizers.learning_rate_of(state) is None
