# SPDX-License-Identifier: Apache-2.0
"""The TFDS builders in data/, on tiny generated files."""

import importlib
import json

import numpy as np
import pytest

from musiclm_jax.data import shards
from tests.data import toys
from tests.data.tasks import (
  test_fma,
  test_folder,
  test_magnatagatune,
  test_musiccaps,
)

pytest.importorskip('tensorflow_datasets')

# TensorFlow alone takes ten seconds to import.
pytestmark = pytest.mark.slow


def _build(name, manual_dir, data_dir):
  import tensorflow_datasets as tfds

  module = importlib.import_module(f'data.{name}.{name}_dataset_builder')
  builder = module.Builder(data_dir=data_dir)
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
  )
  return {
    split: list(tfds.as_numpy(builder.as_dataset(split=split)))
    for split in builder.info.splits
  }


def _folder(directory):
  test_folder._make(directory, 'jsonl')
  (directory / 'captions.jsonl').write_text(
    '\n'.join(json.dumps(row) for row in test_folder.ROWS[:3])
  )


def _fma(directory):
  (directory / 'fma_metadata').mkdir()
  header = test_fma.TRACKS.splitlines()[:4]
  (directory / 'fma_metadata' / 'tracks.csv').write_text('\n'.join(header))
  test_fma.files.write_tone(directory / 'fma_large' / '000' / '000002.mp3')


def _musiccaps(directory):
  test_musiccaps._make(directory, audio='clips', seconds=2)
  (directory / 'musiccaps-public.csv').write_text(
    '\n'.join(test_musiccaps.TABLE.splitlines()[:2])
  )


def _magnatagatune(directory):
  for row in test_magnatagatune.ROWS[1:]:
    test_magnatagatune.files.write_tone(directory / 'mp3' / row[-1])
  table = '\n'.join('\t'.join(row) for row in test_magnatagatune.ROWS)
  (directory / 'annotations_final.csv').write_text(table)


@pytest.mark.parametrize(
  ('name', 'make', 'counts'),
  [
    ('folder', _folder, {'train': 2, 'validation': 1}),
    ('fma', _fma, {'train': 1}),
    ('musiccaps', _musiccaps, {'test': 1}),
    ('magnatagatune', _magnatagatune, {'test': 2, 'train': 2, 'validation': 1}),
  ],
)
def test_a_builder_prepares_its_layout(tmp_path, name, make, counts):
  (tmp_path / 'manual').mkdir()
  make(tmp_path / 'manual')
  found = _build(name, tmp_path / 'manual', tmp_path / 'data')
  assert {split: len(examples) for split, examples in found.items()} == counts
  for example in (example for split in found.values() for example in split):
    assert example['audio'].dtype == np.int16
    assert abs(len(example['audio']) / 24000 - 1.75) < 0.3
    json.loads(example['facts'])


def test_examples_are_what_a_corpus_holds_and_bad_clips_are_counted():
  from musiclm_jax.data import tfds_examples

  source = toys.Sines(faults=((3, 'silent'),))
  found = dict(tfds_examples.examples(source, split='train', max_bad_share=0.2))
  assert len(found) == 8 and 'sine-3' not in found
  example = found['sine-2']
  settings = shards.ShardSettings(sample_rate_hz=24000)
  clip = source.load(source.clips()[2])
  np.testing.assert_array_equal(
    example['audio'], shards.prepare(clip, settings=settings).samples
  )
  assert example['captions'] == ['sine 2', 'a tone, number 2']
  with pytest.raises(ValueError, match=r"1 of 9 clips of 'train': 1 silent"):
    list(tfds_examples.examples(source, split='train'))
