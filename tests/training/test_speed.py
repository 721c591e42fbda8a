# SPDX-License-Identifier: Apache-2.0
"""Figures by hand."""

import pytest

from musiclm_jax.training import speed as speeds
from musiclm_jax.training.meter import Interval
from musiclm_jax.training.speed import SaveClock, Speed

INTERVAL = Interval(
  step=30, metrics={}, steps_per_second=2.0, host_wait_share=0.07
)


def test_figures_are_those_of_all_devices_and_of_one():
  speed = Speed(
    num_examples=7, audio_seconds=35.0, num_devices=5, seconds_at_peak=0.75
  )
  assert speed.figures(INTERVAL) == pytest.approx(
    {
      'speed/steps_per_second': 2.0,
      'speed/host_wait_share': 0.07,
      'speed/examples_per_second': 14.0,
      'speed/audio_seconds_per_second': 70.0,
      'speed/audio_seconds_per_chip_second': 14.0,
      # 1.5 s of one device's work a second, of five.
      'speed/mfu': 0.3,
    }
  )


def test_what_is_not_known_is_left_out():
  speed = Speed(
    num_examples=7, audio_seconds=None, num_devices=5, seconds_at_peak=None
  )
  assert speed.amounts(INTERVAL) == {'examples': 14.0}
  assert sorted(speed.figures(INTERVAL)) == [
    'speed/examples_per_second',
    'speed/host_wait_share',
    'speed/steps_per_second',
  ]


def test_share_of_a_save_is_of_the_time_since_the_last_one(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(speeds.time, 'monotonic', lambda: now[0])
  clock = SaveClock()
  now[0] = 110.0
  assert clock.figures(began=108.0) == {
    'speed/save_seconds': 2.0,
    'speed/save_share': 0.2,
  }
  now[0] = 210.0
  assert clock.figures(began=209.0)['speed/save_share'] == 0.01
