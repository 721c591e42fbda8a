# SPDX-License-Identifier: Apache-2.0
"""Figures of intervals by hand, and steps that are read late."""

import jax.numpy as jnp
import pytest

from musiclm_jax.metrics import WeightedMean
from musiclm_jax.training import meter as meters


def make_meter(**fields):
  return meters.Meter(
    **{
      'num_skipped_in_a_row': 0,
      'max_skipped_in_a_row': 3,
      'log_every_steps': 3,
      **fields,
    }
  )


def metrics(total=0.0, weight=1.0, skipped=0.0):
  def mean(total, weight):
    return WeightedMean(jnp.asarray(total), jnp.asarray(weight))

  return {'loss': mean(total, weight), 'skipped': mean(skipped, 1.0)}


def test_figure_is_the_mean_over_all_weights_of_the_interval():
  meter = make_meter()
  intervals = []
  for step, (total, weight) in enumerate([(2, 1), (3, 2), (7, 3), (9, 1)], 1):
    intervals += meter.add(step, metrics(float(total), float(weight)))
  intervals += meter.finish()
  assert [interval.step for interval in intervals] == [3, 4]
  assert intervals[0].metrics == {'loss': 12 / 6, 'skipped': 0.0}
  assert intervals[1].metrics == {'loss': 9.0, 'skipped': 0.0}


def test_step_is_read_only_when_two_newer_ones_are_on_their_way():
  meter = make_meter(log_every_steps=1)
  counts = [len(meter.add(step, metrics())) for step in (1, 2, 3, 4)]
  assert counts == [0, 0, 1, 1]
  assert [interval.step for interval in meter.settle()] == [3, 4]
  assert meter.finish() == []


def test_settling_does_not_cut_an_interval():
  meter = make_meter()
  meter.add(1, metrics(1.0))
  assert meter.settle() == []
  for step in (2, 3):
    meter.add(step, metrics(4.0))
  (interval,) = meter.settle()
  assert interval.metrics['loss'] == 3.0


def test_figure_that_nothing_was_counted_for_is_left_out():
  meter = make_meter(log_every_steps=1)
  meter.add(1, metrics(0.0, 0.0, skipped=1.0))
  (interval,) = meter.settle()
  assert interval.metrics == {'skipped': 1.0}


def test_good_step_ends_the_row_of_skipped_ones():
  meter = make_meter(num_skipped_in_a_row=2, max_skipped_in_a_row=3)
  for step, skipped in enumerate([0, 1, 1, 0, 1, 1], 1):
    meter.add(step, metrics(skipped=float(skipped)))
  meter.settle()
  meter.add(7, metrics(skipped=1.0))
  with pytest.raises(
    FloatingPointError, match='3 steps in a row, up to step 7'
  ):
    meter.settle()


def test_row_of_skipped_steps_goes_on_from_the_state():
  meter = make_meter(num_skipped_in_a_row=2, max_skipped_in_a_row=3)
  meter.add(8, metrics(skipped=1.0))
  with pytest.raises(FloatingPointError, match='step 8'):
    meter.settle()


def test_time_of_hooks_is_taken_off_the_clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(meters.time, 'monotonic', lambda: now[0])
  meter = make_meter(log_every_steps=2)
  meter.add(1, metrics())
  now[0] += 1
  meter.wait(1.0)
  meter.add(2, metrics())
  now[0] += 10
  meter.exclude(7.0)
  (interval,) = meter.settle()
  assert interval.steps_per_second == 2 / (1 + 10 - 7)
  assert interval.host_wait_share == 1 / 4
