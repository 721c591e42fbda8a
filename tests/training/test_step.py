# SPDX-License-Identifier: Apache-2.0
"""The plain step: by hand, the law of microbatches, and what a skip freezes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.metrics import LossOutput, WeightedMean
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training.step import Training
from tests.stages import toys as stage_toys
from tests.training import toys


class Line(toys.Regression):
  """(slope · x - 3)², with one parameter, so that a step is done by hand."""

  def init(self, key, batch):
    return {'params': {'slope': jnp.asarray(2.0)}}

  def loss(self, variables, batch, key):
    error = variables['params']['slope'] * batch['x'] - 3
    return LossOutput(loss=WeightedMean.of(error**2, batch['weight']))


def start(training, batch, seed=0):
  return meta.unbox(training.init(seed, batch))


def advance(training, state, source, positions):
  step = jax.jit(training.train_step)
  for position in positions:
    state, metrics = step(state, source.batch(position))
  return state, metrics


def test_one_step_of_gradient_descent_is_as_by_hand():
  training = Training(objective=Line(), optimizer=optax.sgd(0.25))
  batch = {'x': jnp.asarray([1.0, 2.0, 9.0]), 'weight': jnp.array([1, 1, 0.0])}

  state, metrics = jax.jit(training.train_step)(start(training, batch), batch)

  # Errors -1 and 1; the gradient is (2 · -1 · 1 + 2 · 1 · 2) / 2 = 1.
  assert float(metrics['loss'].mean) == 1.0
  assert float(metrics['gradient_norm'].mean) == 1.0
  assert float(state.params['slope']) == 2.0 - 0.25 * 1.0
  assert int(state.step) == 1


def test_average_of_the_weights_is_as_by_hand():
  training = Training(
    objective=Line(), optimizer=optax.sgd(0.25), ema_decay=0.15
  )
  batch = {'x': jnp.asarray([1.0, 2.0]), 'weight': jnp.ones(2)}
  step = jax.jit(training.train_step)

  first, _ = step(start(training, batch), batch)
  second, _ = step(first, batch)

  # The first decay is (1 + 0) / (10 + 0); the second is cut at 0.15.
  after_first = 0.1 * 2.0 + 0.9 * 1.75
  after_second = 0.15 * after_first + 0.85 * float(second.params['slope'])
  averaged = [float(s.averaged['params']['slope']) for s in (first, second)]
  np.testing.assert_allclose(averaged, [after_first, after_second], rtol=1e-6)


@pytest.mark.parametrize('num_microbatches', [2, 4, 16])
def test_microbatches_equal_the_whole_batch(num_microbatches):
  source = toys.Noise(dtype=np.float64)
  states = []
  with jax.enable_x64():
    for parts in (1, num_microbatches):
      training = Training(
        objective=toys.Regression(),
        optimizer=optax.adam(0.1),
        num_microbatches=parts,
        ema_decay=0.9,
      )
      state = start(training, source.batch(0))
      states.append(advance(training, state, source, range(3)))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
      *states,
    )


def test_masks_differ_between_microbatches_so_a_mean_of_means_would_differ():
  mask = toys.Noise().batch(0)[batches.SAMPLE_MASK]
  assert len({int(mask[part::2].sum()) for part in range(2)}) == 2


def test_coupled_objective_in_microbatches_is_an_error():
  with pytest.raises(ValueError, match='Reconstruction couples.*set num_micro'):
    Training(
      objective=toys.Reconstruction(),
      optimizer=optax.sgd(0.1),
      num_microbatches=2,
    )


def test_parts_that_would_not_stay_are_an_error():
  class Part(Line):
    trained_parts = ('slope',)

  with pytest.raises(ValueError, match='slope alone.*AdversarialTraining'):
    Training(objective=Part(), optimizer=optax.sgd(0.25))


def test_int8_kernels_are_an_error_before_anything_is_compiled():
  training = Training(
    objective=StageObjective(model=stage_toys.config(param_dtype='int8')),
    optimizer=optax.adam(0.1),
  )
  init = functools.partial(training.init, 0)
  with pytest.raises(ValueError, match="kernel is int8.*param_dtype to 'float"):
    jax.eval_shape(init, stage_toys.batch(2))


def test_statistics_in_microbatches_are_an_error():
  objective = toys.Reconstruction()
  objective.batch_is_coupled = False  # A lie, found out when it is traced.
  training = Training(
    objective=objective, optimizer=optax.sgd(0.1), num_microbatches=2
  )
  batch = toys.Noise().batch(0)
  with pytest.raises(ValueError, match="updates \\['codebooks'\\]"):
    training.train_step(start(training, batch), batch)


def test_batch_that_does_not_divide_into_microbatches_is_an_error():
  training = Training(
    objective=toys.Regression(), optimizer=optax.sgd(0.1), num_microbatches=3
  )
  batch = toys.Noise().batch(0)
  with pytest.raises(ValueError, match='16 rows does not divide into 3'):
    training.train_step(start(training, batch), batch)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_step_that_is_not_finite_freezes_everything_but_the_counters(bad):
  training = Training(
    objective=toys.Reconstruction(), optimizer=optax.adam(0.1), ema_decay=0.9
  )
  source = toys.Noise()
  before, _ = advance(
    training, start(training, source.batch(0)), source, range(2)
  )
  batch = source.batch(2)
  batch[batches.WAVEFORM][3, 5] = bad

  after, metrics = jax.jit(training.train_step)(before, batch)

  jax.tree.map(np.testing.assert_array_equal, toys.skip(before), after)
  assert float(metrics['skipped'].mean) == 1
  assert float(metrics['loss'].weight) == 0

  moved, metrics = jax.jit(training.train_step)(after, source.batch(3))
  assert (int(moved.num_skipped), int(moved.num_skipped_in_a_row)) == (1, 0)
  assert float(metrics['skipped'].mean) == 0
  for name in ('params', 'collections', 'opt_state', 'averaged'):
    for old, new in zip(
      jax.tree.leaves(getattr(after, name)),
      jax.tree.leaves(getattr(moved, name)),
    ):
      assert not np.array_equal(old, new), name


def test_step_draws_from_its_seed_and_its_number_alone():
  training = Training(
    objective=toys.Reconstruction(noise=0.5), optimizer=optax.sgd(0.0)
  )
  batch = toys.Noise().batch(0)
  state = start(training, batch)
  step = jax.jit(training.train_step)

  def loss(**changes):
    _, metrics = step(state.replace(**changes), batch)
    return float(metrics['loss'].mean)

  assert loss() == loss()
  assert loss(step=jnp.asarray(1)) != loss()
  assert loss(seed=jnp.asarray(1, jnp.uint32)) != loss()


def test_one_batch_is_overfitted():
  training = Training(
    objective=toys.Reconstruction(), optimizer=optax.adam(0.01)
  )
  batch = toys.Noise().batch(0)
  state = start(training, batch)
  step = jax.jit(training.train_step)
  losses = []
  for _ in range(30):
    state, metrics = step(state, batch)
    losses.append(float(metrics['loss'].mean))
  assert losses[-1] < losses[0] / 2


def test_evaluation_reads_the_averaged_weights():
  batch = toys.Noise().batch(0)
  training = Training(
    objective=toys.Reconstruction(), optimizer=optax.sgd(0.1), ema_decay=0.99
  )
  state = start(training, batch)
  silent = state.replace(averaged=jax.tree.map(jnp.zeros_like, state.averaged))
  evaluation = training.evaluate(silent, batch)
  assert not np.any(evaluation.waveforms['reconstruction'])
  np.testing.assert_array_equal(
    evaluation.waveforms['original'], batch[batches.WAVEFORM]
  )
