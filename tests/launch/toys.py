# SPDX-License-Identifier: Apache-2.0
"""What pods train that are to be killed."""

import time

from tests.training import toys


class SlowNoise(toys.Noise):
  """Noise that takes its time, so that a kill falls among the steps."""

  def batches(self, start, **rows):
    for batch in super().batches(start, **rows):
      time.sleep(0.1)
      yield batch
