# SPDX-License-Identifier: Apache-2.0
"""Plans as text for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from musiclm_jax.planning.plan import Memory, Plan

_GIB = 2**30
COLUMNS = (
  'topology', 'mesh', 'choice', 'memory', 'fits', 'step', 'MFU', 'days',
  'chip-hours',
)  # fmt: skip


def page(plan: Plan) -> str:
  """All of one plan."""
  tokens = plan.tokens_per_step
  lines = [
    f'{plan.topology}, mesh {_mesh(plan)}; {plan.choice.flags()}',
    f'parameters            {plan.num_parameters:,}',
    f'a step                {plan.batch_size:,} rows'
    + (f', {tokens:,} tokens' if tokens else '')
    + f', {plan.audio_seconds_per_step:,.0f} s of audio',
    f'useful FLOPs a step   {plan.flops_per_step:.3g}',
    'memory of a device, GiB',
  ]
  for field in dataclasses.fields(Memory):
    amount = getattr(plan.memory, field.name)
    lines.append(f'  {field.name:<19} {amount / _GIB:8.3f}')
  lines += [
    f'  {"in all":<19} {plan.memory.total / _GIB:8.3f} of'
    f' {plan.capacity / _GIB:.2f}: {_verdict(plan)}',
    'sent by a device a step, GiB',
    *(
      f'  {axis:<19} {amount / _GIB:8.3f}'
      for axis, amount in plan.sent_bytes.items()
    ),
    f'a step, estimated     {plan.step_seconds:.4f} s: computing'
    f' {plan.compute_seconds:.4f}, communicating'
    f' {plan.communication_seconds:.4f}',
    f'MFU, estimated        {plan.mfu:.1%}',
    f'{plan.num_steps:,} steps           {plan.days:.2f} days,'
    f' {plan.chip_hours:,.0f} chip-hours',
  ]
  return '\n'.join(lines)


def row(plan: Plan) -> tuple[str, ...]:
  """One plan under `COLUMNS`."""
  return (
    plan.topology,
    _mesh(plan),
    f'{"remat" if plan.choice.remat else "kept"},'
    f' {plan.choice.num_microbatches} microbatch'
    + ('es' if plan.choice.num_microbatches > 1 else ''),
    f'{plan.memory.total / _GIB:.2f} of {plan.capacity / _GIB:.2f} GiB',
    _verdict(plan),
    f'{plan.step_seconds:.3f} s',
    f'{plan.mfu:.0%}',
    f'{plan.days:.1f}',
    f'{plan.chip_hours:,.0f}',
  )


def table(
  rows: Sequence[Sequence[str]], *, columns: Sequence[str] = COLUMNS
) -> str:
  """A table in Markdown."""
  lines = [columns, ['---'] * len(columns), *rows]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def compared(plan: Plan, compiled: Mapping[str, int | float]) -> str:
  """The compiler's memory beside ours, GiB."""
  ours = plan.memory
  at_rest = ours.parameters + ours.optimizer + ours.average + ours.batch
  lines = [
    'GiB of a device           compiler      ours',
    _pair('arguments', compiled['argument_bytes'], at_rest),
    _pair('temporaries', compiled['temp_bytes'], ours.total - at_rest),
    _pair('peak', compiled['peak_bytes'], ours.total),
    f'compiled in {compiled["seconds"]:.0f} s',
  ]
  return '\n'.join(lines)


def _pair(name: str, theirs: int | float, ours: int | float) -> str:
  return f'  {name:<20} {theirs / _GIB:10.3f} {ours / _GIB:9.3f}'


def _verdict(plan: Plan) -> str:
  if not plan.fits:
    return 'DOES NOT FIT'
  return 'fits' if plan.is_safe else 'may not fit: compile it'


def _mesh(plan: Plan) -> str:
  return ' × '.join(str(size) for size in plan.mesh.values())
