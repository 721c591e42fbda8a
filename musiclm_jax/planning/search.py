# SPDX-License-Identifier: Apache-2.0
"""Which meshes, microbatches and rematerialization fit, and which are fastest."""

from __future__ import annotations

from collections.abc import Iterator

from musiclm_jax.planning import abstract
from musiclm_jax.planning.plan import Choice, Plan, Planner, Run

# Beyond these, layers of this width are slivers.
_MAX_TENSOR = 8
_MAX_MICROBATCHES = 16


def search(planner: Planner) -> list[Plan]:
  """Every choice that fits, the fastest first."""
  plans = []
  for choice in choices(planner.run):
    plan = planner.plan(choice)
    if plan.fits:
      plans.append(plan)
  return sorted(plans, key=lambda plan: plan.step_seconds)


def nearest(planner: Planner) -> Plan | None:
  """What fits and changes least; among equals the fastest."""
  asked = planner.run.chosen

  def distance(plan: Plan) -> tuple[int, float]:
    changed = sum(
      getattr(plan.choice, name) != getattr(asked, name)
      for name in ('fsdp', 'tensor', 'remat', 'num_microbatches')
    )
    return changed, plan.step_seconds

  return min(search(planner), key=distance, default=None)


def choices(run: Run) -> Iterator[Choice]:
  """All that train the same model: rows divide evenly over every mesh."""
  num_chips = run.topology.num_chips
  can_rematerialize = abstract.with_remat(
    run.training, remat=True
  ) != abstract.with_remat(run.training, remat=False)
  for tensor in _powers(min(_MAX_TENSOR, num_chips)):
    for fsdp in _powers(num_chips // tensor):
      if num_chips % (fsdp * tensor):
        continue
      for num_microbatches in _microbatches(run):
        rows = run.batch_size // num_microbatches
        if rows % (num_chips // tensor):
          continue
        for remat in (False, True) if can_rematerialize else (False,):
          yield Choice(
            fsdp=fsdp,
            tensor=tensor,
            remat=remat,
            num_microbatches=num_microbatches,
          )


def _microbatches(run: Run) -> list[int]:
  training = run.training
  coupled = getattr(training.objective, 'batch_is_coupled', True)
  if coupled or not hasattr(training, 'num_microbatches'):
    return [1]
  return [n for n in _powers(_MAX_MICROBATCHES) if run.batch_size % n == 0]


def _powers(limit: int) -> list[int]:
  return [2**n for n in range(limit.bit_length()) if 2**n <= limit]
