# SPDX-License-Identifier: Apache-2.0
"""Reading a corpus: any crop, any clip, and clear words for damage."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.data import corpus
from tests.data import toys


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  toys.write(directory, toys.Sines(faults=((1, 'silent'),)), max_bad_share=0.1)
  return directory


def test_any_crop_is_the_source_to_half_a_step_of_16_bits(directory):
  opened = corpus.AudioCorpus(directory)
  original = toys.Sines().waveform(8)
  clip = 7  # One clip before it was rejected.
  for start, length in [(0, 7), (1009, 1009), (1000, 20), (1777, 700)]:
    crop = opened.read(clip, start=start, num_samples=length) / 2.0**15
    np.testing.assert_allclose(
      crop, original[start : start + length], atol=0.51 / 2**15
    )


def test_past_the_end_of_a_clip_are_zeros_not_the_next_clip(directory):
  opened = corpus.AudioCorpus(directory)
  length = int(opened.index[2]['num_samples'])
  crop = opened.read(2, start=length - 5, num_samples=1511)
  assert crop[:5].any()
  assert not crop[5:].any()
  with pytest.raises(ValueError, match='outside clip 2'):
    opened.read(2, start=length, num_samples=1)


def test_a_whole_clip_has_its_exact_length(directory):
  opened = corpus.AudioCorpus(directory)
  waveform = opened.waveform(9)
  assert waveform.dtype == np.float32
  np.testing.assert_allclose(
    waveform, toys.Sines().waveform(10), atol=0.51 / 2**15
  )


def test_captions_facts_and_splits_stay_with_their_clip(directory):
  opened = corpus.AudioCorpus(directory)
  described = opened.describe(7)
  assert described.id == 'sine-8'
  assert described.group == 'tune-8'
  assert described.captions == ('sine 8', 'a tone, number 8')
  assert described.facts == {'number': 8, 'notes': [[0.0, 1.5, 68]]}
  ids = [opened.describe(clip).id for clip in opened.clips('validation')]
  assert ids == ['sine-4', 'sine-9']
  assert len(opened.clips('train')) == 8
  with pytest.raises(ValueError, match="no split 'test'; it has train, valid"):
    opened.clips('test')


def test_a_corpus_reads_after_a_pickle(directory):
  opened = corpus.AudioCorpus(directory)
  before = opened.read(3, start=11, num_samples=29)
  again = pickle.loads(pickle.dumps(opened))
  np.testing.assert_array_equal(again.read(3, start=11, num_samples=29), before)


def test_reading_wants_no_tensorflow(directory):
  program = (
    'import sys\n'
    "for name in ('tensorflow', 'seqio', 'tensorflow_datasets', 'gin'):\n"
    '  sys.modules[name] = None\n'
    'from musiclm_jax.data import loader\n'
    'batches = loader.AudioBatches(\n'
    f"  {str(directory)!r}, split='train', window_seconds=2, batch_size=3,\n"
    '  seed=0)\n'
    "print(next(batches.batches(0))['waveform'].shape)\n"
  )
  run = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert run.stdout == f'(3, {2 * toys.RATE_HZ})\n', run.stderr


def test_an_unfinished_or_foreign_folder_is_named(tmp_path):
  with pytest.raises(ValueError, match='no finished corpus'):
    corpus.AudioCorpus(tmp_path)
  toys.write(tmp_path, toys.Sines(num_clips=2))
  path = tmp_path / corpus.CORPUS_FILE
  path.write_text(json.dumps({**json.loads(path.read_text()), 'encoding': 'x'}))
  with pytest.raises(ValueError, match=r'version 1 \(x\)'):
    corpus.AudioCorpus(tmp_path)


@pytest.mark.parametrize('damage', ['cut', 'flip', 'remove'])
def test_a_damaged_shard_is_named_with_what_to_do(tmp_path, damage):
  toys.write(tmp_path, toys.Sines(num_clips=2))
  path = tmp_path / 'shard-00000' / corpus.AUDIO_FILE
  content = bytearray(path.read_bytes())
  if damage == 'cut':
    path.write_bytes(content[: len(content) // 2])
  elif damage == 'flip':
    middle = bytes(content).find(
      corpus.AudioCorpus(tmp_path).read(0, start=100, num_samples=64).tobytes()
    )
    content[middle] ^= 0xFF
    path.write_bytes(content)
  else:
    path.unlink()
  with pytest.raises(ValueError, match='is damaged.*prepare the corpus again'):
    corpus.AudioCorpus(tmp_path).read(0, start=0, num_samples=1009)
