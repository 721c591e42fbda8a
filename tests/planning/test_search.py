# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from musiclm_jax.planning import search
from musiclm_jax.planning.plan import Choice, Memory, Plan, Planner
from tests.planning import toys


class FakePlanner(Planner):
  """Plans by a formula; only what has two microbatches or more fits."""

  def __init__(self):
    super().__init__(toys.stage_run(batch_size=8))

  def plan(self, choice=None, *, topology=None):
    seconds = choice.num_microbatches + 0.1 * choice.fsdp
    needed = 1.0 if choice.num_microbatches > 1 else 100.0
    return Plan(
      topology=self.run.topology.name,
      mesh={},
      choice=choice,
      batch_size=8,
      num_parameters=1,
      tokens_per_step=None,
      audio_seconds_per_step=1.0,
      flops_per_step=1.0,
      memory=Memory(
        parameters=0,
        optimizer=0,
        average=0,
        batch=0,
        gradients=0.0,
        activations=needed,
      ),
      capacity=10.0,
      compute_seconds=seconds,
      sent_bytes={},
      communication_seconds=0.0,
      mfu=0.5,
      num_steps=1,
      safe_share=0.5,
    )


def test_choices_divide_rows_and_chips():
  found = list(search.choices(toys.stage_run('v5e:2x4', batch_size=32)))
  assert len(found) == len(set(found))
  assert {c.tensor for c in found} == {1, 2, 4, 8}
  assert {c.fsdp for c in found if c.tensor == 2} == {1, 2, 4}
  # 32 rows over 8 chips: four microbatches at most.
  assert {c.num_microbatches for c in found if c.tensor == 1} == {1, 2, 4}
  assert {c.remat for c in found} == {False, True}


def test_batches_that_are_coupled_are_not_parted():
  run = dataclasses.replace(
    toys.stage_run('v5e:2x2'), training=toys.codec_training()
  )
  assert {c.num_microbatches for c in search.choices(run)} == {1}


def test_what_fits_is_ranked_by_time():
  found = search.search(FakePlanner())
  assert found and all(plan.fits for plan in found)
  times = [plan.step_seconds for plan in found]
  assert times == sorted(times)


def test_the_nearest_changes_least():
  planner = FakePlanner()
  plan = search.nearest(planner)
  asked = planner.run.chosen
  assert plan.choice == dataclasses.replace(asked, num_microbatches=2)


@pytest.mark.slow
def test_the_first_of_a_real_search_is_the_fastest_of_fresh_plans():
  run = toys.stage_run(batch_size=8)
  found, planner = search.search(Planner(run)), Planner(run)
  # Every mesh of four chips with a row or more a chip, by hand.
  fresh = [
    planner.plan(
      Choice(fsdp=fsdp, tensor=tensor, remat=remat, num_microbatches=parts)
    )
    for fsdp, tensor in ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4))
    for parts in (1, 2, 4, 8)[: 2 * tensor]
    for remat in (False, True)
    if 8 // parts % (4 // tensor) == 0
  ]
  assert len(found) == len(fresh)
  assert found[0].step_seconds == min(plan.step_seconds for plan in fresh)
  assert found[-1].step_seconds == max(plan.step_seconds for plan in fresh)
