# SPDX-License-Identifier: Apache-2.0
"""The adversarial step against two plain gradients, and what a skip freezes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.training import adversarial
from musiclm_jax.training.adversarial import AdversarialTraining
from tests.training import toys


def make_training(objective=None, **fields):
  return AdversarialTraining(
    objective=objective or toys.Game(noise=0.1),
    generator_optimizer=optax.adam(0.01),
    discriminator_optimizer=optax.adam(0.02),
    **fields,
  )


def start(training, batch):
  return meta.unbox(training.init(0, batch))


def test_both_gradients_equal_those_of_two_apart_forward_passes():
  objective = toys.Game(noise=0.1)
  batch = toys.Noise(dtype=np.float64).batch(0)
  with jax.enable_x64():
    state = start(make_training(objective), batch)
    key = state.step_key()
    judge_params = state.params['discriminator']

    def generator_loss(params):
      variables = {'params': params, **state.collections['generator']}
      generated = objective.generate(variables, batch, key)
      judged = objective.judge(judge_params, batch, generated.waveform)
      return objective.generator_loss(generated, judged, state.step).loss.mean

    def discriminator_loss(params):
      variables = {
        'params': state.params['generator'],
        **state.collections['generator'],
      }
      fake = objective.generate(variables, batch, key).waveform
      judged = objective.judge(params, batch, fake)
      return objective.discriminator_loss(judged, state.step).loss.mean

    played = adversarial.play(objective, state, batch, key)
    apart = {
      'generator': jax.grad(generator_loss)(state.params['generator']),
      'discriminator': jax.grad(discriminator_loss)(judge_params),
    }
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14),
      dict(played.gradients),
      apart,
    )
    assert all(np.any(leaf) for leaf in jax.tree.leaves(apart))


def test_both_players_move_from_the_same_state():
  training = make_training(ema_decay=0.9)
  batch = toys.Noise().batch(0)
  before = start(training, batch)
  after, metrics = jax.jit(training.train_step)(before, batch)
  for name in ('params', 'collections', 'averaged'):
    for old, new in zip(
      jax.tree.leaves(getattr(before, name)),
      jax.tree.leaves(getattr(after, name)),
    ):
      assert not np.array_equal(old, new), name
  assert {'loss', 'discriminator/loss', 'toy/error', 'skipped'} <= set(metrics)


def test_parts_that_are_not_trained_keep_every_bit():
  class DecoderGame(toys.Game):
    trained_parts = ('decoder',)

  training = dataclasses.replace(
    make_training(DecoderGame(noise=0.1), ema_decay=0.9),
    generator_optimizer=optax.adamw(0.01, weight_decay=0.1),
  )
  batch = toys.Noise().batch(0)
  before = start(training, batch)
  kernel = before.params['generator']['encoder']['kernel'].at[3, 5].set(-0.0)
  for variables in (before.params['generator'], before.averaged['params']):
    variables['encoder']['kernel'] = kernel
  before = jax.device_get(before)
  step = jax.jit(training.train_step)
  after = before
  for _ in range(3):
    after, _ = step(after, batch)
  moved = [
    jax.tree_util.keystr(path)
    for (path, old), (_, new) in zip(
      jax.tree_util.tree_leaves_with_path(before),
      jax.tree_util.tree_leaves_with_path(jax.device_get(after)),
      strict=True,
    )
    if np.asarray(old).tobytes() != np.asarray(new).tobytes()
  ]
  # Their moments, too: no gradient was taken.
  assert not [
    path for path in moved if 'encoder' in path or 'codebooks' in path
  ]
  assert ".params['generator']['decoder']['kernel']" in moved
  assert ".averaged['params']['decoder']['kernel']" in moved
  assert ".params['discriminator']['hidden']['kernel']" in moved


@pytest.mark.parametrize('culprit', ['generator', 'discriminator', 'updates'])
def test_step_that_is_not_finite_freezes_both_players(culprit):
  class Broken(toys.Game):
    def spoil(self, output, where):
      spoilt = jnp.where(output.loss.total == 0, 0, jnp.nan)
      loss = output.loss.replace(total=output.loss.total * spoilt)
      return output.replace(loss=loss) if where == culprit else output

    def generate(self, *arguments):
      generated = super().generate(*arguments)
      if culprit != 'updates':
        return generated
      spoilt = {**generated.updates['codebooks']}
      spoilt['mean'] = spoilt['mean'] * jnp.nan
      return generated.replace(updates={'codebooks': spoilt})

    def generator_loss(self, *arguments):
      return self.spoil(super().generator_loss(*arguments), 'generator')

    def discriminator_loss(self, *arguments):
      return self.spoil(super().discriminator_loss(*arguments), 'discriminator')

  source = toys.Noise()
  sound = make_training(ema_decay=0.9)
  before, _ = jax.jit(sound.train_step)(
    start(sound, source.batch(0)), source.batch(0)
  )
  broken = make_training(Broken(noise=0.1), ema_decay=0.9)
  after, metrics = jax.jit(broken.train_step)(before, source.batch(1))

  assert float(metrics['skipped'].mean) == 1
  frozen = toys.skip(before)
  jax.tree.map(np.testing.assert_array_equal, frozen, after)


def test_generator_overfits_one_batch_under_the_discriminator():
  training = make_training()
  batch = toys.Noise().batch(0)
  state = start(training, batch)
  step = jax.jit(training.train_step)
  errors = []
  for _ in range(60):
    state, metrics = step(state, batch)
    errors.append(float(metrics['toy/error'].mean))
  assert errors[-1] < errors[0] / 2


def test_discriminator_with_statistics_is_an_error():
  class Odd(toys.Game):
    def init(self, key, batch):
      players = super().init(key, batch)
      odd = {**players['discriminator'], 'spectral': {'u': jnp.ones(3)}}
      return {**players, 'discriminator': odd}

  batch = toys.Noise().batch(0)
  with pytest.raises(ValueError, match="collections \\['spectral'\\]"):
    make_training(Odd()).init(0, batch)


def test_waveforms_reach_the_evaluation_of_the_generator():
  training = make_training()
  batch = toys.Noise().batch(0)
  evaluation = training.evaluate(start(training, batch), batch)
  assert set(evaluation.waveforms) == {'original', 'reconstruction'}
  np.testing.assert_array_equal(
    evaluation.waveforms['original'], batch[batches.WAVEFORM]
  )
