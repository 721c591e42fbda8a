# SPDX-License-Identifier: Apache-2.0
"""The same maths on any mesh, and constraints that are really there."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from musiclm_jax import axes
from musiclm_jax.training import optimizers, partitioning
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.training import toys

MESHES = {
  'data8': Partitioner(data=8),
  'fsdp8': Partitioner(data=1, fsdp=8),
  'mesh222': Partitioner(data=2, fsdp=2, tensor=2),
}
ONE_DEVICE = Partitioner(data=1)


def plain():
  return Training(
    objective=toys.Reconstruction(noise=0.1),
    optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
    ema_decay=0.9,
  )


def microbatched():
  return Training(
    objective=toys.Regression(),
    optimizer=optimizers.adafactor(learning_rate=0.01),
    num_microbatches=2,
  )


def adversarial():
  return AdversarialTraining(
    objective=toys.Game(noise=0.1),
    generator_optimizer=optimizers.adam(learning_rate=0.01),
    discriminator_optimizer=optimizers.adam(learning_rate=0.01),
    ema_decay=0.9,
  )


def first_state(partitioner, training, batch):
  placed = partitioner.place_batch(batch, batch_size=toys.BATCH)
  return partitioner.first_state(training, seed=3, batch=placed)


def train(partitioner, training, *, dtype, num_steps=10):
  """Losses, and the last state, on the host."""
  source = toys.Noise(dtype=dtype)
  state = first_state(partitioner, training, source.batch(0))
  step = partitioner.partition_step(training, state)
  losses = []
  for position in range(num_steps):
    batch = partitioner.place_batch(
      source.batch(position), batch_size=toys.BATCH
    )
    state, metrics = step(state, batch)
    losses.append(float(metrics['loss'].mean))
  return np.asarray(losses), jax.device_get(state)


@pytest.mark.parametrize('mesh', MESHES)
@pytest.mark.parametrize('make', [plain, microbatched, adversarial])
def test_maths_is_the_same_on_any_mesh_in_float64(mesh, make):
  with jax.enable_x64():
    wanted, wanted_state = train(ONE_DEVICE, make(), dtype=np.float64)
    got, state = train(MESHES[mesh], make(), dtype=np.float64)
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
  assert wanted[-1] != wanted[0]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12),
    (state.params, state.collections, state.averaged),
    (wanted_state.params, wanted_state.collections, wanted_state.averaged),
  )


@pytest.mark.parametrize('mesh', MESHES)
@pytest.mark.parametrize('make', [plain, adversarial])
def test_maths_is_the_same_on_any_mesh_in_float32(mesh, make):
  wanted, _ = train(ONE_DEVICE, make(), dtype=np.float32)
  got, _ = train(MESHES[mesh], make(), dtype=np.float32)
  np.testing.assert_allclose(got, wanted, rtol=1e-4)


@contextlib.contextmanager
def entered_by_the_old_way(partitioner):
  with partitioner.mesh, nn.logical_axis_rules(partitioner.rules):
    yield


@pytest.mark.filterwarnings('ignore:.*:DeprecationWarning')
def test_activations_are_constrained_only_if_the_mesh_is_entered_rightly():
  partitioner = MESHES['mesh222']
  training = plain()
  batch = partitioner.place_batch(toys.Noise().batch(0), batch_size=toys.BATCH)
  state = partitioner.first_state(training, seed=0, batch=batch)

  def num_constraints(entered):
    step = jax.jit(lambda state, batch: training.train_step(state, batch))
    with entered:
      text = step.lower(state, batch).as_text()
    return text.count('sdy.sharding_constraint')

  # One activation is constrained, in the forward and in the backward pass.
  assert num_constraints(partitioner.entered()) == 2
  assert num_constraints(entered_by_the_old_way(partitioner)) == 0
  lowered = partitioner.partition_step(training, state).lower(state, batch)
  assert lowered.as_text().count('sdy.sharding_constraint') == 2


def test_parameters_and_moments_lie_by_the_rules():
  state = first_state(MESHES['mesh222'], plain(), toys.Noise().batch(0))
  kernel = PartitionSpec('fsdp', 'tensor')
  moments = optax.tree.get(state.opt_state, 'ScaleByAdamState')
  averaged = state.averaged['params']
  for tree in (state.params, moments.mu, moments.nu, averaged):
    assert tree['encoder']['kernel'].sharding.spec == kernel
  assert state.collections['codebooks']['mean'].sharding.spec == PartitionSpec(
    'tensor'
  )
  shard = state.params['encoder']['kernel'].addressable_shards[0].data
  assert shard.shape == (toys.SAMPLES // 2, toys.HIDDEN // 2)


def test_factored_moments_lie_as_the_rows_and_columns_of_their_parameter():
  class Wide(toys.Regression):
    def __init__(self):
      self.module = toys.Linear(136, (axes.EMBED, axes.MLP))

  training = Training(
    objective=Wide(), optimizer=optimizers.adafactor(learning_rate=0.1)
  )
  source = toys.Noise(samples=128)
  state = first_state(MESHES['mesh222'], training, source.batch(0))
  specs = {
    leaf.shape: leaf.sharding.spec
    for leaf in jax.tree.leaves(state.opt_state)
    if leaf.size > 1
  }
  assert specs == {
    (128,): PartitionSpec('fsdp'),
    (136,): PartitionSpec('tensor'),
  }


def test_dimension_that_the_mesh_does_not_divide_stays_whole():
  class Odd(toys.Regression):
    def __init__(self):
      self.module = toys.Linear(7, (axes.EMBED, axes.MLP))

  training = Training(objective=Odd(), optimizer=optax.sgd(0.1))
  state = first_state(MESHES['mesh222'], training, toys.Noise().batch(0))
  assert state.params['kernel'].sharding.spec == PartitionSpec('fsdp', None)


def test_batch_is_split_over_data_and_fsdp():
  batch = MESHES['mesh222'].place_batch(
    toys.Noise().batch(0), batch_size=toys.BATCH
  )
  for array in batch.values():
    assert array.sharding.spec == PartitionSpec(('data', 'fsdp'))
    assert array.addressable_shards[0].data.shape == (4, toys.SAMPLES)
  np.testing.assert_array_equal(
    batch['waveform'], toys.Noise().batch(0)['waveform']
  )


def test_rules_that_miss_a_parameter_axis_are_an_error():
  rules = tuple(r for r in partitioning.STANDARD_RULES if r[0] != axes.CODEBOOK)
  with pytest.raises(ValueError, match="do not name the axes \\['codebook'\\]"):
    Partitioner(rules=rules)


def test_rule_to_an_unknown_mesh_axis_is_an_error():
  rules = (*partitioning.STANDARD_RULES, ('extra', 'model'))
  with pytest.raises(ValueError, match="'extra' says 'model'"):
    Partitioner(rules=rules)


def test_variable_with_an_axis_outside_the_rules_is_an_error():
  class Odd(toys.Regression):
    def __init__(self):
      self.module = toys.Linear(toys.SAMPLES, (axes.EMBED, 'colour'))

  training = Training(objective=Odd(), optimizer=optax.sgd(0.1))
  with pytest.raises(ValueError, match="do not name \\['colour'\\]"):
    ONE_DEVICE.abstract_state(training, seed=0, batch=toys.Noise().batch(0))


def test_batch_that_the_devices_cannot_share_is_an_error():
  with pytest.raises(ValueError, match='batch of 12 .* multiple of 8'):
    MESHES['data8'].batch_sharding(12)


def test_mesh_larger_than_the_machine_is_an_error():
  with pytest.raises(ValueError, match='takes 16 devices, and there are 8'):
    Partitioner(data=4, fsdp=4).mesh  # noqa: B018


def test_data_axis_takes_what_the_others_leave():
  assert dict(Partitioner(fsdp=2, tensor=2).mesh.shape) == {
    'data': 2,
    'fsdp': 2,
    'tensor': 2,
  }


def test_one_process_reads_every_row():
  for partitioner in MESHES.values():
    assert partitioner.process_rows(toys.BATCH) == (0, 1)


def test_waveforms_of_an_evaluation_are_few_and_whole():
  partitioner = MESHES['data8']
  training = plain()
  batch = partitioner.place_batch(toys.Noise().batch(0), batch_size=toys.BATCH)
  state = partitioner.first_state(training, seed=0, batch=batch)
  evaluate = partitioner.partition_evaluation(training, num_waveforms=3)
  evaluation = evaluate(state, batch)
  assert evaluation.waveforms['original'].shape == (3, toys.SAMPLES)
  assert evaluation.waveforms['original'].sharding.is_fully_replicated
  assert jnp.isfinite(evaluation.metrics['toy/error'].mean)
