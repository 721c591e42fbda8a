# SPDX-License-Identifier: Apache-2.0
"""Aligned crops on whole seconds, in an order without state."""

import dataclasses
import itertools

import numpy as np
import pytest

from musiclm_jax import batches as batches_lib
from musiclm_jax.data import token_loader
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import StageSpec, Take
from tests.data import token_toys

SPEC = StageSpec(
  name='toy',
  inputs=(Take(stream=token_toys.CLIP), Take(stream=token_toys.SLOW)),
  output=Take(stream=token_toys.FAST, first=1),
  window_seconds=2,
)


@pytest.fixture(scope='module')
def tokens(tmp_path_factory):
  directory = tmp_path_factory.mktemp('written')
  token_toys.write(directory, num_clips=37)
  return directory / 'tokens'


def opened(tokens, **changes):
  settings = {'spec': SPEC, 'split': 'train', 'batch_size': 5, 'seed': 3}
  return token_loader.TokenBatches(tokens, **(settings | changes))


def take(source, number, start=0, **processes):
  return list(itertools.islice(source.batches(start, **processes), number))


def codes(batch, name):
  return batch[batches_lib.codes_key(name)]


def test_it_is_a_batch_source_of_the_stages_streams(tokens):
  source = opened(tokens)
  assert isinstance(source, batches_lib.BatchSource)
  (batch,) = take(source, 1)
  assert {name: array.shape for name, array in batch.items()} == {
    'codes/mulan': (5, 1, 3),
    'codes/semantic': (5, 4, 1),
    'codes/acoustic': (5, 10, 4),
    'frame_mask/mulan': (5, 1),
    'frame_mask/semantic': (5, 4),
    'frame_mask/acoustic': (5, 10),
  }
  # Every code is one that the layout knows, at its place.
  assert StageLayout(SPEC).pack(
    {name: codes(batch, name) for name in SPEC.streams}
  ).shape == (5, StageLayout(SPEC).length)


def test_streams_are_cut_at_the_same_whole_second(tokens):
  seconds = set()
  for batch in take(opened(tokens), 20):
    clip = codes(batch, 'mulan')[:, 0, 0]
    for row in range(5):
      # Code = clip + second + 20, clip + 2 × second, clip + 5 × second.
      of_mulan = clip[row] - 20
      of_slow, of_fast = (
        codes(batch, name)[row, 0, 0] for name in ('semantic', 'acoustic')
      )
      second = of_slow - of_mulan
      number = of_mulan - second
      assert of_fast == number + 5 * second
      seconds.add((int(number), int(second)))
  assert len({number for number, _ in seconds}) == 30  # The split's clips.
  # Clip 36 has 5.47 s: a window of 2 s starts at 0 … 3.
  assert {s for n, s in seconds if n > 31} == {0, 1, 2, 3}
  assert {s for n, s in seconds if n < 10} == {0}


def test_a_position_is_one_integer_and_rows_are_shared_out(tokens):
  whole = take(opened(tokens, batch_size=6), 9)
  for batch, again in zip(whole[4:], take(opened(tokens, batch_size=6), 5, 4)):
    for name in batch:
      np.testing.assert_array_equal(batch[name], again[name])
  parts = [
    take(opened(tokens, batch_size=6), 9, process_index=i, process_count=3)
    for i in range(3)
  ]
  for batch, *rows in zip(whole, *parts):
    for name in batch:
      np.testing.assert_array_equal(
        batch[name], np.concatenate([part[name] for part in rows])
      )
  other = take(opened(tokens, batch_size=6, seed=4), 1)[0]
  assert not np.array_equal(codes(other, 'mulan'), codes(whole[0], 'mulan'))


def test_an_epoch_visits_every_clip_once(tokens):
  source = opened(tokens, batch_size=15)
  rows = [codes(b, 'mulan')[:, 0, 0] for b in take(source, 2)]
  assert source.num_clips == 30 and source.num_batches is None
  starts = [codes(b, 'semantic')[:, 0, 0] for b in take(source, 2)]
  numbers = 2 * (np.concatenate(rows) - 20) - np.concatenate(starts)
  assert len(set(numbers.tolist())) == 30


def test_fixed_crops_are_one_pass_over_the_middles(tokens):
  source = opened(tokens, split='validation', crops='fixed')
  batches = take(source, 9)
  assert len(batches) == source.num_batches == 2
  assert source.num_examples == 7
  masks = np.concatenate([b['frame_mask/mulan'][:, 0] for b in batches])
  assert masks.tolist() == [True] * 7 + [False] * 3
  # Clip 34 has 5.27 s: the middle of the starts 0 … 3 is 2.
  assert codes(batches[1], 'semantic')[1, 0, 0] == 34 + 2 * 2
  assert not codes(batches[1], 'acoustic')[2:].any()


def test_a_short_clip_is_padded_masked_and_counted(tokens):
  spec = dataclasses.replace(SPEC, window_seconds=3)
  source = opened(tokens, spec=spec, batch_size=30)
  (batch,) = take(source, 1)
  lengths = batch['frame_mask/acoustic'].sum(axis=1)
  # 2.01 s + 0.096 s a clip: the first eleven are shorter, every fifth held out.
  assert source.num_padded_clips == np.count_nonzero(lengths < 15) == 9
  short = np.argmin(lengths)
  assert lengths[short] == 10
  assert (
    batch['frame_mask/semantic'][short].tolist() == [True] * 4 + [False] * 2
  )
  assert not codes(batch, 'acoustic')[short, 10:].any()


def test_codes_of_other_models_than_the_stages_are_an_error(tokens):
  other = dataclasses.replace(token_toys.SLOW, fingerprint='t')
  spec = dataclasses.replace(SPEC, inputs=(Take(stream=other),))
  with pytest.raises(ValueError, match=r'fingerprint t \(wanted\) / s \(got\)'):
    opened(tokens, spec=spec)
  melody = dataclasses.replace(token_toys.CLIP, name='melody')
  spec = dataclasses.replace(SPEC, inputs=(Take(stream=melody),))
  with pytest.raises(ValueError, match="codes of 'melody' and .* has mulan"):
    opened(tokens, spec=spec)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'crops': 'all'}, "'random' or 'fixed', not 'all'"),
    ({'batch_size': 0}, 'batch_size must be at least 1'),
    ({'split': 'test'}, "no split 'test'"),
  ],
)
def test_what_cannot_be_is_named(tokens, changes, message):
  with pytest.raises(ValueError, match=message):
    opened(tokens, **changes)


def test_a_window_that_the_corpus_has_no_conditions_for_is_an_error(tokens):
  spec = dataclasses.replace(SPEC, window_seconds=4)
  with pytest.raises(ValueError, match='windows of 3, 2 s, not of 4 s'):
    opened(tokens, spec=spec)
  without = dataclasses.replace(spec, inputs=(Take(stream=token_toys.SLOW),))
  assert set(take(opened(tokens, spec=without), 1)[0]) == {
    f'{what}/{name}'
    for what in ('codes', 'frame_mask')
    for name in ('semantic', 'acoustic')
  }
