# SPDX-License-Identifier: Apache-2.0
"""Batches in order from a position on, and what they amount to."""

import fractions

import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.training.feed import Feed
from musiclm_jax.training.partitioning import Partitioner
from tests.training import toys

PARTITIONER = Partitioner(data=8)


def test_batches_come_in_order_from_the_position_on():
  source = toys.Noise()
  feed = Feed(source, partitioner=PARTITIONER, start=5)
  for position in (5, 6, 7):
    np.testing.assert_array_equal(
      feed.next()[batches.WAVEFORM], source.batch(position)[batches.WAVEFORM]
    )


def test_audio_of_a_batch_is_counted_if_its_rate_is_known():
  source = toys.Noise()
  feed = Feed(source, partitioner=PARTITIONER, start=0)
  feed.next()
  assert feed.audio_seconds is None
  source.sample_rate_hz = 8
  feed = Feed(source, partitioner=PARTITIONER, start=0)
  feed.next()
  assert feed.audio_seconds == toys.BATCH * toys.SAMPLES / 8


def test_audio_of_codes_is_their_window():
  source = toys.Noise()
  source.window_seconds = fractions.Fraction(5, 2)
  feed = Feed(source, partitioner=PARTITIONER, start=0)
  assert feed.audio_seconds == toys.BATCH * 2.5


def test_batch_of_another_form_is_an_error():
  class Growing(toys.Noise):
    def batch(self, position):
      self.samples = toys.SAMPLES + (position == 1)
      return super().batch(position)

  feed = Feed(Growing(), partitioner=PARTITIONER, start=0)
  feed.next()
  with pytest.raises(ValueError, match='Batch 1 holds .*25.*pad or crop'):
    feed.next()


def test_source_that_ends_is_an_error():
  class Short(toys.Noise):
    def batches(self, start, **rows):
      return iter([self.batch(start)])

  feed = Feed(Short(), partitioner=PARTITIONER, start=7)
  feed.next()
  with pytest.raises(ValueError, match='ended after 8.*endless'):
    feed.next()
