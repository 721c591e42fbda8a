# SPDX-License-Identifier: Apache-2.0
"""SeqIO yields the loader's rows, whole and in shards."""

import dataclasses
import itertools

import numpy as np
import pytest

from musiclm_jax.data import loader, token_loader
from musiclm_jax.stages.layout import StageLayout
from musiclm_jax.stages.spec import StageSpec, Take
from tests.data import token_toys, toys

seqio = pytest.importorskip('seqio')

# TensorFlow alone takes ten seconds to import.
pytestmark = pytest.mark.slow

WINDOW = 3 * toys.RATE_HZ  # Most clips are shorter: they are padded.
LENGTHS = {'waveform': WINDOW}


@pytest.fixture(scope='module')
def tasks(tmp_path_factory):
  from musiclm_jax.data import seqio_tasks

  directory = tmp_path_factory.mktemp('corpus')
  toys.write(directory, toys.Sines(num_clips=13))

  def opened(split, crops, seed):
    return loader.AudioBatches(
      directory,
      split=split,
      window_seconds=3,
      batch_size=4,
      crops=crops,
      seed=seed,
    )

  sources = {
    'toy_crops': opened('train', 'random', 3),
    'toy_mixture': loader.Mixture(
      [opened('train', 'random', 1), opened('train', 'random', 2)],
      weights=[1, 2],
    ),
  }
  for name, source in sources.items():
    seqio_tasks.add_audio_task(
      name,
      examples={
        'train': source,
        'validation': opened('validation', 'fixed', 0),
      },
    )
  sources['validation'] = opened('validation', 'fixed', 0)
  return sources


def _rows(name, number=None, **settings):
  from musiclm_jax.data import converters

  dataset = seqio.get_dataset(
    name, LENGTHS, converters.AudioConverter(pack=False), **settings
  )
  return list(itertools.islice(dataset.as_numpy_iterator(), number))


def _stacked(rows):
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _assert_rows_are_the_batches(rows, batches):
  for batch, first in zip(batches, range(0, len(rows), 4)):
    of_seqio = _stacked(rows[first : first + 4])
    assert of_seqio.keys() == batch.keys()
    for key in batch:
      np.testing.assert_array_equal(of_seqio[key], batch[key])


@pytest.mark.parametrize('name', ['toy_crops', 'toy_mixture'])
@pytest.mark.parametrize('shuffle', [False, True])
def test_seqio_yields_the_rows_of_the_loader(tasks, name, shuffle):
  rows = _rows(name, 40, shuffle=shuffle, num_epochs=None)
  assert not rows[0]['sample_mask'].all()
  _assert_rows_are_the_batches(rows, tasks[name].batches(0))


@pytest.mark.parametrize('name', ['toy_crops', 'toy_mixture'])
def test_shards_together_are_the_global_batch(tasks, name):
  shards = [
    _rows(name, 10, shard_info=seqio.ShardInfo(index=index, num_shards=2))
    for index in range(2)
  ]
  # Shard i has the rows i, i + 2, … of every batch.
  rows = [row for pair in zip(*shards) for row in pair]
  _assert_rows_are_the_batches(rows, tasks[name].batches(0))


def test_fixed_crops_are_one_pass(tasks):
  rows = _rows('toy_crops', dataset_split='validation')
  assert len(rows) == 2
  (batch,) = tasks['validation'].batches(0)
  np.testing.assert_array_equal(
    _stacked(rows)['waveform'], batch['waveform'][:2]
  )


STAGE = StageSpec(
  name='toy',
  inputs=(Take(stream=token_toys.CLIP), Take(stream=token_toys.SLOW)),
  output=Take(stream=token_toys.FAST, first=1),
  window_seconds=3,
)


@pytest.fixture(scope='module')
def codes(tmp_path_factory):
  from musiclm_jax.data import seqio_tasks

  directory = tmp_path_factory.mktemp('codes')
  token_toys.write(directory, num_clips=17)

  def opened(split, crops, spec=STAGE):
    return token_loader.TokenBatches(
      directory / 'tokens', spec=spec, split=split, crops=crops, batch_size=4
    )

  examples = {
    'train': opened('train', 'random'),
    'validation': opened('validation', 'fixed'),
  }
  seqio_tasks.add_token_task('toy_codes', examples=examples)
  with pytest.raises(ValueError, match='for 2 stages'):
    other = dataclasses.replace(STAGE, window_seconds=2)
    seqio_tasks.add_token_task(
      'mixed', examples=examples | {'test': opened('train', 'fixed', other)}
    )
  return examples


@pytest.mark.parametrize('num_shards', [1, 2])
def test_codes_become_the_rows_of_the_stage(codes, num_shards):
  from musiclm_jax.data import converters

  layout = StageLayout(STAGE)
  converter = converters.StageConverter(layout)
  shards = [
    list(
      itertools.islice(
        seqio.get_dataset(
          'toy_codes',
          converters.task_feature_lengths(layout),
          converter,
          shard_info=seqio.ShardInfo(index=index, num_shards=num_shards),
        ).as_numpy_iterator(),
        12,
      )
    )
    for index in range(num_shards)
  ]
  rows = [row for of_shards in zip(*shards) for row in of_shards]
  for batch, first in zip(codes['train'].batches(0), range(0, 12, 4)):
    tokens = layout.pack(
      {name: batch[f'codes/{name}'] for name in STAGE.streams},
      frame_masks={name: batch[f'frame_mask/{name}'] for name in STAGE.streams},
    )
    found = _stacked(rows[first : first + 4])
    np.testing.assert_array_equal(found['tokens'], tokens)
    np.testing.assert_array_equal(found['loss_mask'], layout.loss_mask(tokens))
  # Some clips are shorter than the window.
  assert not np.all(_stacked(rows)['loss_mask'].sum(1) == 15 * 3)


def test_fixed_crops_of_codes_are_one_pass(codes):
  from musiclm_jax.data import converters

  converter = converters.StageConverter(StageLayout(STAGE))
  dataset = seqio.get_dataset(
    'toy_codes',
    converters.task_feature_lengths(StageLayout(STAGE)),
    converter,
    dataset_split='validation',
  )
  assert len(list(dataset.as_numpy_iterator())) == 3
