# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import jax
import pytest
from flax.core import meta

from musiclm_jax.planning import abstract
from musiclm_jax.planning import plan as planning
from musiclm_jax.planning.plan import Planner
from tests.planning import toys
from tests.stages import toys as stages


@pytest.fixture(scope='module')
def planner():
  """8 rows on four chips."""
  return Planner(toys.stage_run())


@pytest.fixture(scope='module')
def plan(planner):
  return planner.plan()


def test_counts_are_those_of_the_state_and_the_row(plan):
  run = toys.stage_run()
  params = abstract.boxed_state(run.training, batch=run.batch).params
  count = sum(leaf.size for leaf in jax.tree.leaves(meta.unbox(params)))
  layout = run.training.objective.model.layout
  assert plan.num_parameters == count
  assert plan.tokens_per_step == 8 * layout.length
  assert plan.audio_seconds_per_step == 8 * 2
  # A pass forward and two back, of two flops a parameter but for the tables.
  body = count - 2 * 96 * layout.num_ids
  assert plan.flops_per_step > 6 * body * plan.tokens_per_step


def test_memory_is_that_of_the_devices_shards(planner):
  whole = planner.plan().memory
  split = planner.plan(dataclasses.replace(planner.run.chosen, fsdp=4)).memory
  count = planner.plan().num_parameters
  assert whole.parameters == 4 * count
  # Adam has two moments, a rate and counters.
  assert 8 * count <= whole.optimizer < 8 * count + 100
  # Not every width divides into four.
  assert whole.parameters / 4 < split.parameters < whole.parameters / 2
  assert split.gradients < whole.gradients / 2
  assert split.batch == whole.batch


def test_the_real_state_takes_as_many_bytes_on_a_device(planner):
  choice = dataclasses.replace(planner.run.chosen, fsdp=2, tensor=2)
  partitioner = dataclasses.replace(
    planner.run.partitioner, data=1, fsdp=2, tensor=2
  )
  state = jax.tree.map(
    lambda leaf: leaf.sharding.shard_shape(leaf.shape),
    partitioner.abstract_state(
      planner.run.training, seed=0, batch=stages.batch(8)
    ).params,
  )
  shapes = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, tuple))
  sizes = [4 * math.prod(shape) for shape in shapes]
  assert planner.plan(choice).memory.parameters == sum(sizes)


def test_microbatches_and_rematerialization_save_activations():
  # Of so many rows that a step needs most in the backward pass.
  planner = Planner(toys.stage_run(batch_size=1024))
  chosen = planner.run.chosen
  kept = planner.plan()
  parts = planner.plan(dataclasses.replace(chosen, num_microbatches=2))
  remat = planner.plan(dataclasses.replace(chosen, remat=True))
  assert parts.flops_per_step == remat.flops_per_step == kept.flops_per_step
  assert remat.compute_seconds > kept.compute_seconds
  assert parts.memory.activations < kept.memory.activations
  assert remat.memory.activations < kept.memory.activations


def test_time_and_cost_follow_from_the_step(plan):
  assert plan.step_seconds == max(
    plan.compute_seconds, plan.communication_seconds
  )
  assert plan.mfu == pytest.approx(
    plan.flops_per_step / (4 * 197e12 * plan.step_seconds)
  )
  assert plan.chip_hours == pytest.approx(
    4 * plan.num_steps * plan.step_seconds / 3600
  )
  assert plan.to_json()['fits'] and plan.fits


def test_more_than_nine_tenths_of_a_chip_does_not_fit(plan):
  room = plan.memory.total / 0.9
  assert dataclasses.replace(plan, capacity=room * 1.001).fits
  assert not dataclasses.replace(plan, capacity=room * 0.999).fits


def test_rows_must_divide_over_the_mesh(planner):
  run = dataclasses.replace(toys.stage_run('v5e:4x4'))
  with pytest.raises(
    ValueError, match='batch of 8 does not divide over the 16'
  ):
    Planner(run).plan()


def test_less_of_a_chip_is_safe_for_a_codec():
  # Eight times the plan fit; the compiler's peak was 6.4 times it.
  assert planning.safe_share(toys.codec_training()) == 1 / 8
  assert planning.safe_share(toys.stage_training()) == 1 / 2
