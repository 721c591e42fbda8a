# SPDX-License-Identifier: Apache-2.0
"""The same plan as JAX's, for pieces of every length."""

import dataclasses

from musiclm_jax.export.pytorch import windows
from musiclm_jax.inference import windows as jax_windows


def test_plans_are_those_of_jax():
  num_plans = 0
  for total in range(1, 61, 7):
    for known in range(0, total, 5):
      for stop in range(known + 1, total + 1, 8):
        for fine_window in (3, 14):
          sizes = {
            'known': known,
            'stop': stop,
            'total': total,
            'semantic_window': 17,
            'coarse_window': 6,
            'fine_window': fine_window,
            'frames_per_tick': 2,
          }
          assert dataclasses.asdict(windows.plan(**sizes)) == (
            dataclasses.asdict(jax_windows.plan(**sizes))
          )
          num_plans += 1
  assert num_plans > 200
