# SPDX-License-Identifier: Apache-2.0
"""The order: permutations, restarts, processes, mixtures."""

import collections

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from musiclm_jax.data import order


@hypothesis.given(
  num_items=st.integers(1, 1021),
  seed=st.integers(0, 2**40),
  epoch=st.integers(0, 10**6),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_epoch_visits_every_item_once(num_items, seed, epoch):
  shuffle = order.Shuffle(num_items=num_items, seed=seed)
  places = np.arange(num_items) + epoch * num_items
  assert sorted(shuffle.item_at(places)) == list(range(num_items))


def test_epochs_and_seeds_have_orders_of_their_own():
  places = np.arange(97)
  first = order.Shuffle(num_items=97, seed=3).item_at(places)
  second_epoch = order.Shuffle(num_items=97, seed=3).item_at(places + 97)
  other_seed = order.Shuffle(num_items=97, seed=4).item_at(places)
  assert not np.array_equal(first, places)
  assert not np.array_equal(first, second_epoch)
  assert not np.array_equal(first, other_seed)


@pytest.mark.parametrize('num_items', [5, 13])
def test_every_item_is_first_equally_often(num_items):
  firsts = [
    int(order.Shuffle(num_items=num_items, seed=seed).item_at(np.array(0)))
    for seed in range(301)
  ]
  counts = [firsts.count(item) for item in range(num_items)]
  assert stats.chisquare(counts).pvalue > 1e-3


def test_all_permutations_of_three_are_equally_likely():
  permutations = collections.Counter(
    tuple(order.Shuffle(num_items=3, seed=seed).item_at(np.arange(3)))
    for seed in range(307)
  )
  assert len(permutations) == 6
  assert stats.chisquare(list(permutations.values())).pvalue > 1e-3


def test_billions_of_items_take_no_memory_and_do_not_collide():
  shuffle = order.Shuffle(num_items=5_000_000_011, seed=7)
  items = shuffle.item_at(np.arange(20011) + 4_999_900_000)
  assert len(set(items)) == 20011
  assert items.min() >= 0 and items.max() < 5_000_000_011
  # The mean of a uniform draw; its standard error is 1e7.
  assert items.mean() == pytest.approx(2.5e9, abs=4e7)


def test_one_position_alone_is_what_it_is_among_others():
  shuffle = order.Shuffle(num_items=31, seed=5)
  together = shuffle.item_at(np.arange(101))
  alone = [int(shuffle.item_at(np.array(place))) for place in range(101)]
  np.testing.assert_array_equal(together, alone)


def test_draws_are_uniform_and_independent_from_purpose_to_purpose():
  crops = order.uniform(np.arange(5003), seed=1, purpose='crop')
  gains = order.uniform(np.arange(5003), seed=1, purpose='gain')
  assert stats.kstest(crops, 'uniform').pvalue > 1e-3
  assert abs(np.corrcoef(crops, gains)[0, 1]) < 0.05
  assert 0 <= crops.min() and crops.max() < 1


@hypothesis.given(
  weights=st.lists(st.floats(0.05, 1), min_size=1, max_size=7),
  start=st.integers(0, 10**7),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_an_interleave_reads_each_stream_without_gaps(weights, start):
  interleave = order.Interleave(weights=tuple(weights), seed=11)
  streams, places = interleave.locate(np.arange(start, start + 1531))
  for stream in range(len(weights)):
    mine = places[streams == stream]
    np.testing.assert_array_equal(mine, mine[0] + np.arange(len(mine)))


def test_an_interleave_starts_every_stream_at_its_start():
  interleave = order.Interleave(weights=(1.0, 2.0), seed=11)
  streams, places = interleave.locate(np.arange(53))
  assert places[streams == 0][0] == 0 and places[streams == 1][0] == 0


def test_a_block_holds_each_stream_as_often_as_its_weight_says():
  interleave = order.Interleave(weights=(0.7, 0.2, 0.1), seed=11)
  streams, _ = interleave.locate(np.arange(1024 * 3))
  assert interleave.counts == (717, 205, 102)
  assert [int((streams == n).sum()) for n in range(3)] == [2151, 615, 306]
  assert not np.array_equal(streams[:1024], streams[1024:2048])


def test_a_weight_too_small_to_be_met_is_an_error():
  with pytest.raises(ValueError, match='1 part in 1024'):
    order.Interleave(weights=(1.0, 1e-5), seed=0)


def test_processes_split_a_batch_into_equal_runs_that_cover_it():
  parts = [
    order.process_rows(12, process_index=index, process_count=4)
    for index in range(4)
  ]
  assert [row for part in parts for row in part] == list(range(12))
  with pytest.raises(ValueError, match='12 does not divide over 5'):
    order.process_rows(12, process_index=0, process_count=5)
