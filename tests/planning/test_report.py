# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from musiclm_jax.planning import plan as planning
from musiclm_jax.planning import report

GIB = 2**30


@pytest.fixture
def plan():
  return planning.Plan(
    topology='v5e:2x4',
    mesh={'data': 2, 'fsdp': 4, 'tensor': 1},
    choice=planning.Choice(fsdp=4, tensor=1, remat=True, num_microbatches=2),
    batch_size=16,
    num_parameters=1234567,
    tokens_per_step=4321,
    audio_seconds_per_step=32.0,
    flops_per_step=5e12,
    memory=planning.Memory(
      parameters=1 * GIB,
      optimizer=2 * GIB,
      average=0,
      batch=0,
      gradients=3.0 * GIB,
      activations=5.0 * GIB,
    ),
    capacity=12.0 * GIB,
    compute_seconds=0.25,
    sent_bytes={'data': 1.0, 'fsdp': 2.0 * GIB, 'tensor': 0.0},
    communication_seconds=0.5,
    mfu=0.125,
    num_steps=86400,
    safe_share=0.5,
  )


def test_a_page_says_what_does_not_fit(plan):
  text = report.page(plan)
  assert 'mesh 2 × 4 × 1; FSDP=4 TENSOR=1 remat=True num_micro' in text
  assert '11.000 of 12.00: DOES NOT FIT' in text
  assert '4,321 tokens' in text and '12.5%' in text
  assert '86,400 steps           0.50 days, 96 chip-hours' in text


@pytest.mark.parametrize(
  ('capacity', 'verdict'),
  [(12, 'DOES NOT FIT'), (21, 'may not fit: compile it'), (22, 'fits')],
)
def test_what_fills_over_its_safe_share_may_not_fit(plan, capacity, verdict):
  plan = dataclasses.replace(plan, capacity=capacity * float(GIB))
  assert report.page(plan).count(f': {verdict}\n') == 1
  assert f'| {verdict} |' in report.table([report.row(plan)])


def test_a_row_stands_under_the_columns(plan):
  lines = report.table([report.row(plan)]).splitlines()
  assert len({line.count('|') for line in lines}) == 1
  assert (
    '11.00 of 12.00 GiB | DOES NOT FIT | 0.500 s | 12% | 0.5 | 96' in lines[2]
  )


def test_the_compilers_memory_stands_beside_ours(plan):
  text = report.compared(
    plan,
    {
      'argument_bytes': 4 * GIB,
      'temp_bytes': 7 * GIB,
      'peak_bytes': 10 * GIB,
      'seconds': 61.0,
    },
  )
  assert 'arguments                 4.000     3.000' in text
  assert 'temporaries               7.000     8.000' in text
  assert 'compiled in 61 s' in text
