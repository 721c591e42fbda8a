# SPDX-License-Identifier: Apache-2.0
"""Axes of optimizer states, whatever wraps the optimizer."""

import functools

import jax
import optax
import pytest
from jax.sharding import PartitionSpec

from musiclm_jax import axes
from musiclm_jax.training import optimizers, state_axes
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.step import Training
from tests.training import toys

ENCODER = PartitionSpec(axes.EMBED, axes.MLP)


def logical_axes(training):
  init = functools.partial(training.init, 0)
  return state_axes.logical_axes(jax.eval_shape(init, toys.Noise().batch(0)))


def by_path(tree):
  return {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.parametrize(
  'optimizer',
  [
    optax.sgd(0.1, momentum=0.9),
    optimizers.adamw(learning_rate=0.1, clip_norm=1.0),
    optax.multi_transform({'all': optax.adam(0.1)}, 'all'),
    optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
  ],
)
def test_moments_have_the_axes_of_their_parameters(optimizer):
  found = by_path(
    logical_axes(
      Training(objective=toys.Reconstruction(), optimizer=optimizer)
    ).opt_state
  )
  kernels = {p: spec for p, spec in found.items() if p.endswith("['kernel']")}
  assert len(kernels) >= 2
  for path, spec in kernels.items():
    decoder = PartitionSpec(axes.MLP, axes.EMBED)
    assert spec == (decoder if 'decoder' in path else ENCODER), path
  others = {p: spec for p, spec in found.items() if p not in kernels}
  assert all(spec == PartitionSpec() for spec in others.values())


def test_players_are_not_mixed_up():
  adam = optimizers.adam(learning_rate=0.1)
  axes_of = logical_axes(
    AdversarialTraining(
      objective=toys.Game(),
      generator_optimizer=adam,
      discriminator_optimizer=adam,
      ema_decay=0.9,
    )
  )
  moments = optax.tree.get(axes_of.opt_state['discriminator'], 'mu')
  assert moments['logit']['kernel'] == PartitionSpec(axes.MLP, None)
  assert axes_of.params['generator']['encoder']['kernel'] == ENCODER
  assert axes_of.averaged['params']['encoder']['kernel'] == ENCODER
  statistics = axes_of.collections['generator']['codebooks']
  assert statistics['mean'] == PartitionSpec(axes.MLP)
  assert statistics['count'] == PartitionSpec()


def test_state_that_matches_no_parameter_is_whole_and_said_so(caplog):
  def init(params):
    return {'history': jax.tree.leaves(params)[0].reshape(-1)}

  odd = optax.GradientTransformation(init, lambda g, s, p=None: (g, s))
  axes_of = logical_axes(Training(objective=toys.Regression(), optimizer=odd))
  assert axes_of.opt_state == {'history': PartitionSpec()}
  assert 'history' in caplog.text and 'matches no parameter' in caplog.text
