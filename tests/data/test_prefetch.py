# SPDX-License-Identifier: Apache-2.0
"""Prefetching: in order, ahead, and gone when it should be."""

import itertools
import threading
import time

import pytest

from musiclm_jax.data import prefetch


def test_items_come_in_order_however_long_each_takes():
  def make(number):
    time.sleep(0.01 * (number % 3))
    return number * number

  found = prefetch.prefetch(make, range(13), num_ahead=5, num_threads=3)
  assert list(found) == [number**2 for number in range(13)]


def test_no_more_are_made_than_are_asked_for_and_ahead():
  made = []
  found = prefetch.prefetch(
    made.append, itertools.count(), num_ahead=3, num_threads=1
  )
  for _ in range(2):
    next(found)
  found.close()
  assert len(made) <= 2 + 3


def test_an_error_is_raised_where_its_item_was_due():
  def make(number):
    if number == 3:
      raise OSError('disk gone')
    return number

  found = prefetch.prefetch(make, range(9), num_ahead=4, num_threads=2)
  assert [next(found) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(OSError, match='disk gone'):
    next(found)
  assert not [
    thread
    for thread in threading.enumerate()
    if thread.name.startswith('prefetch')
  ]
