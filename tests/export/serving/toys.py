# SPDX-License-Identifier: Apache-2.0
"""A model that makes noise of a prompt and a seed, as fast as it is told."""

import math
import threading
import time
import zlib

import torch

RATE_HZ = 8000
PART_SECONDS = 0.25


class FakeMusic:
  """Rows of noise, in parts of a quarter of a second.

  Attributes:
    sample_rate_hz: Of the noise.
    gate: Closed, no part is made until it opens.
    calls: What `generate` was asked for.
    num_parts: Parts that were made.
  """

  sample_rate_hz = RATE_HZ

  def __init__(self, *, seconds_per_part=0.0):
    self.seconds_per_part = seconds_per_part
    self.gate = threading.Event()
    self.gate.set()
    self.calls = []
    self.num_parts = 0
    self.fails_with = None

  def generate(self, prompts, *, seconds, seed, guidance, stream, max_rows):
    assert stream and len(prompts) == len(seed) and max_rows % len(seed) == 0
    self.calls.append(
      {'prompts': list(prompts), 'seed': list(seed), 'seconds': seconds}
    )
    whole = torch.stack(
      [music(p, seconds=seconds, seed=s) for p, s in zip(prompts, seed)]
    )
    for part in whole.split(round(PART_SECONDS * RATE_HZ), dim=1):
      time.sleep(self.seconds_per_part)
      assert self.gate.wait(30)
      if self.fails_with is not None:
        raise self.fails_with
      self.num_parts += 1
      yield part


def music(prompt, *, seconds, seed):
  """What the fake makes, [samples]."""
  generator = torch.Generator().manual_seed(zlib.crc32(prompt.encode()) + seed)
  num_samples = math.ceil(seconds * RATE_HZ)
  return torch.rand(num_samples, generator=generator) - 0.5
