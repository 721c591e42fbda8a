# SPDX-License-Identifier: Apache-2.0
"""Batches: the same rows for any restart and any number of processes."""

import itertools
import threading

import numpy as np
import pytest

from musiclm_jax import batches as batches_lib
from musiclm_jax.audio import resample
from musiclm_jax.data import augmentation, corpus, loader
from tests.data import toys

WINDOW = 1009


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  toys.write(directory, toys.Sines(num_clips=13))
  return directory


def _open(directory, **settings):
  settings = {
    'split': 'train',
    'window_seconds': 1,
    'batch_size': 4,
    'seed': 3,
  } | settings
  return loader.AudioBatches(directory, **settings)


def _take(source, number, start=0, **processes):
  found = source.batches(start, **processes)
  taken = list(itertools.islice(found, number))
  found.close()
  return taken


def _assert_same(left, right):
  assert len(left) == len(right)
  for one, other in zip(left, right):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


def _mixture(directory):
  parts = [_open(directory, seed=1), _open(directory, seed=2)]
  return loader.Mixture(parts, weights=[1.0, 3.0], seed=5)


SOURCES = [_open, _mixture]


@pytest.mark.parametrize('make', SOURCES)
def test_it_is_a_batch_source(directory, make):
  assert isinstance(make(directory), batches_lib.BatchSource)


@pytest.mark.parametrize('make', SOURCES)
@pytest.mark.parametrize('process_count', [2, 4])
def test_processes_together_read_what_one_would(directory, make, process_count):
  whole = _take(make(directory), 9)
  parts = [
    _take(make(directory), 9, process_index=index, process_count=process_count)
    for index in range(process_count)
  ]
  joined = [
    {key: np.concatenate([part[key] for part in step]) for key in step[0]}
    for step in zip(*parts)
  ]
  _assert_same(whole, joined)


@pytest.mark.parametrize('make', SOURCES)
def test_a_restart_at_a_position_equals_going_on(directory, make):
  _assert_same(_take(make(directory), 11)[7:], _take(make(directory), 4, 7))


def test_an_epoch_has_one_crop_of_every_clip_and_the_next_ones_differ(
  directory,
):
  source = _open(directory, batch_size=1)
  clips = source.num_clips
  assert clips == 11
  rows = [batch['waveform'][0] for batch in _take(source, 2 * clips)]
  frequencies = [np.abs(np.fft.rfft(row)).argmax() for row in rows]
  train = [n for n in range(13) if n % 5 != 4]
  # The clip's number is its pitch above 31 Hz.
  assert sorted(frequencies[:clips]) == [31 + n for n in train]
  assert sorted(frequencies[clips:]) == [31 + n for n in train]
  assert frequencies[:clips] != frequencies[clips:]
  first, second = (
    frequencies.index(41),
    clips + frequencies[clips:].index(41),
  )
  assert not np.array_equal(rows[first], rows[second])


def test_a_crop_lies_within_its_clip(directory):
  opened = corpus.AudioCorpus(directory)
  clips = [opened.waveform(clip) for clip in opened.clips('train')]
  for batch in _take(_open(directory), 5):
    assert batch['sample_mask'].all()
    for row in batch['waveform']:
      windows = (
        np.lib.stride_tricks.sliding_window_view(c, WINDOW) for c in clips
      )
      assert any((window == row).all(-1).any() for window in windows)


def test_seeds_and_batches_differ(directory):
  (one, two), (other, _) = (
    _take(_open(directory), 2),
    _take(_open(directory, seed=4), 2),
  )
  assert not np.array_equal(one['waveform'], two['waveform'])
  assert not np.array_equal(one['waveform'], other['waveform'])


def test_a_short_clip_is_padded_masked_and_counted(directory):
  source = _open(directory, window_seconds=3, batch_size=11)
  # Clip n has 2031 + 97 n samples: the first eleven but two are shorter.
  lengths = [2031 + 97 * n for n in range(13) if n % 5 != 4]
  assert source.num_padded_clips == sum(n < 3027 for n in lengths) == 9
  (batch,) = _take(source, 1)
  valid = batch['sample_mask'].sum(-1)
  assert sorted(valid) == sorted(min(n, 3027) for n in lengths)
  for row, length in enumerate(valid):
    assert batch['sample_mask'][row, :length].all()
    assert batch['waveform'][row, :length].any()
    assert not batch['waveform'][row, length:].any()


def test_fixed_crops_are_the_middle_of_every_clip_once(directory):
  source = _open(directory, split='validation', crops='fixed', batch_size=3)
  (batch,) = source.batches(0)
  assert source.num_batches == 1
  opened = corpus.AudioCorpus(directory)
  for row, clip in enumerate(opened.clips('validation')):
    whole = opened.waveform(clip)
    start = (len(whole) - WINDOW + 1) // 2
    np.testing.assert_allclose(
      batch['waveform'][row], whole[start : start + WINDOW], atol=0
    )
  # Two clips in three rows.
  assert batch['sample_mask'].any(-1).tolist() == [True, True, False]
  assert not batch['waveform'][2].any()


def test_crops_are_resampled_to_the_rate_that_the_model_wants(directory):
  def fixed(**settings):
    (batch,) = _open(
      directory, split='validation', crops='fixed', batch_size=2, **settings
    ).batches(0)
    return batch

  stored, batch = fixed(), fixed(sample_rate_hz=601)
  assert batch['waveform'].shape == batch['sample_mask'].shape == (2, 601)
  assert batch['sample_mask'].all()
  for row, wanted in zip(batch['waveform'], stored['waveform']):
    wanted = resample.resample(wanted, from_hz=1009, to_hz=601)
    np.testing.assert_array_equal(row, wanted)
    # One second at any rate: its sine keeps its pitch.
    pitches = [np.abs(np.fft.rfft(wave)).argmax() for wave in (row, wanted)]
    assert pitches[0] == pitches[1] > 31


def test_resampling_changes_neither_the_order_nor_what_is_valid(directory):
  settings = {'window_seconds': 3, 'batch_size': 11}
  (stored,) = _take(_open(directory, **settings), 1)
  source = _open(directory, sample_rate_hz=500, **settings)
  (batch,) = _take(source, 1)
  assert batch['waveform'].shape == (11, 1500)
  assert (source.sample_rate_hz, source.num_padded_clips) == (500, 9)
  for row in range(11):
    length = int(stored['sample_mask'][row].sum())
    valid = resample.num_resampled(length, from_hz=1009, to_hz=500)
    mask = batch['sample_mask'][row]
    assert mask.sum() == min(valid, 1500)
    assert mask[: mask.sum()].all()
    assert not batch['waveform'][row, mask.sum() :].any()
    wanted = resample.resample(
      stored['waveform'][row, :length], from_hz=1009, to_hz=500
    )
    np.testing.assert_array_equal(batch['waveform'][row, mask], wanted[:1500])
  _assert_same(_take(source, 3)[2:], _take(source, 1, 2))


def test_an_augmentation_is_the_same_for_the_same_example(directory):
  gain = augmentation.RandomGain(low_db=-12, high_db=0)
  plain = _take(_open(directory), 3)
  loud = _take(_open(directory, augmentations=[gain]), 3)
  _assert_same(loud[2:], _take(_open(directory, augmentations=[gain]), 1, 2))
  ratios = [
    np.abs(one['waveform']).max(-1) / np.abs(other['waveform']).max(-1)
    for one, other in zip(loud, plain)
  ]
  assert np.ptp(ratios) > 0.1
  assert np.min(ratios) > 10 ** (-12 / 20) and np.max(ratios) <= 1


def test_a_mixture_reads_its_parts_by_weight_and_in_their_order(directory):
  mixture = _mixture(directory)
  numbers = np.arange(64)
  which, places = mixture._interleave.locate(numbers)
  mixed = mixture.examples(numbers)['waveform']
  for part, seed in enumerate((1, 2)):
    expected = _open(directory, seed=seed).examples(places[which == part])
    np.testing.assert_array_equal(mixed[which == part], expected['waveform'])
  assert 0.1 < np.mean(which == 0) < 0.4


def test_parts_of_a_mixture_that_disagree_are_an_error(directory):
  parts = [_open(directory), _open(directory, window_seconds=2)]
  with pytest.raises(ValueError, match=r'window_samples: \[1009, 2018\]'):
    loader.Mixture(parts, weights=[1.0, 1.0])


def test_a_dropped_iterator_leaves_no_thread(directory):
  before = threading.active_count()
  found = _open(directory).batches(0)
  next(found)
  assert threading.active_count() > before
  found.close()
  assert threading.active_count() == before


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'crops': 'some'}, "'random' or 'fixed', not 'some'"),
    ({'batch_size': 0}, 'at least 1'),
    ({'sample_rate_hz': 24000}, 'at 1009 Hz, but 24000 Hz is wanted'),
    ({'window_seconds': 0.5}, '504.5 samples'),
    ({'split': 'test'}, 'has no split'),
  ],
)
def test_settings_that_cannot_be_met_say_what_would(
  directory, settings, message
):
  with pytest.raises(ValueError, match=message):
    _open(directory, **settings)
