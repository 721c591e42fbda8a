# SPDX-License-Identifier: Apache-2.0
"""Writing a corpus: same bytes, all or nothing, bad clips counted."""

import dataclasses
import fcntl

import pytest

from musiclm_jax.data import corpus
from tests.data import toys

FAULTS = (
  (1, 'silent'),
  (2, 'short'),
  (3, 'nan'),
  (5, 'corrupt'),
  (6, 'missing'),
  (7, 'silent'),
)


def test_every_bad_clip_is_counted_with_its_reason(tmp_path):
  info = toys.write(tmp_path, toys.Sines(faults=FAULTS), max_bad_share=0.6)
  assert {name: n.clips for name, n in info.rejected.items()} == {
    'silent': 2,
    'too short': 1,
    'not finite': 1,
    'unreadable': 1,
    'missing': 1,
  }
  assert info.rejected['unreadable'].examples == (
    'sine-5: RuntimeError: bad header',
  )
  assert info.num_clips == 5
  assert info.summary().endswith(
    'rejected 6 of 11: 2 silent, 1 too short, 1 not finite, 1 unreadable,'
    ' 1 missing.'
  )
  assert corpus.read_info(tmp_path) == info


def test_too_many_bad_clips_end_the_run_and_a_larger_share_goes_on(tmp_path):
  source = toys.Sines(faults=FAULTS)
  with pytest.raises(ValueError, match='more than the allowed share of 0.3:'):
    toys.write(tmp_path, source, max_bad_share=0.3)
  assert not (tmp_path / corpus.CORPUS_FILE).exists()
  info = toys.write(tmp_path, source, max_bad_share=0.6)
  assert info.num_rejected == 6


def test_a_clip_above_full_scale_is_turned_down_and_counted(tmp_path):
  info = toys.write(tmp_path, toys.Sines(num_clips=3, faults=((1, 'loud'),)))
  assert info.num_scaled == 1
  samples = corpus.AudioCorpus(tmp_path).waveform(1)
  assert 0.99 < abs(samples).max() < 1


def test_a_stopped_run_goes_on_with_the_missing_shards_only(tmp_path):
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  source = toys.Sines(log=tmp_path / 'log')
  toys.write(whole, source)
  toys.write(stopped, source)
  # As a kill during shard 2 leaves it: half a shard, and no index.
  (stopped / corpus.CORPUS_FILE).unlink()
  (stopped / 'shard-00002').rename(stopped / '.shard-00002.partial')
  (tmp_path / 'log').unlink()
  toys.write(stopped, source)
  assert (tmp_path / 'log').read_text().split() == ['6', '7', '8']
  assert toys.digests(stopped) == toys.digests(whole)


def test_a_finished_corpus_is_not_written_again(tmp_path):
  source = toys.Sines(log=tmp_path / 'log')
  info = toys.write(tmp_path / 'corpus', source)
  (tmp_path / 'log').unlink()
  assert toys.write(tmp_path / 'corpus', source) == info
  assert not (tmp_path / 'log').exists()


def test_another_data_set_in_the_same_folder_is_an_error(tmp_path):
  toys.write(tmp_path, toys.Sines(num_clips=5))
  with pytest.raises(ValueError, match=r'num_clips=5.*num_clips=7'):
    toys.write(tmp_path, toys.Sines(num_clips=7))
  with pytest.raises(
    ValueError, match=r'sample_rate_hz 1009 \(there\) / 2003 \(asked for\)'
  ):
    toys.write(tmp_path, toys.Sines(num_clips=5), sample_rate_hz=2003)


def test_two_writers_do_not_share_a_folder(tmp_path):
  with open(tmp_path / '.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match='Another process is writing'):
      toys.write(tmp_path, toys.Sines())


def test_a_group_in_two_splits_is_an_error(tmp_path):
  @dataclasses.dataclass(frozen=True)
  class Leaking(toys.Sines):
    def clips(self):
      return [dataclasses.replace(r, group='one') for r in super().clips()]

  with pytest.raises(ValueError, match="'train' and 'validation'"):
    toys.write(tmp_path, Leaking())


def test_a_clip_is_resampled_to_the_rate_of_the_corpus(tmp_path):
  toys.write(tmp_path, toys.Sines(num_clips=2), sample_rate_hz=2018)
  opened = corpus.AudioCorpus(tmp_path)
  assert opened.index['num_samples'].tolist() == [
    2 * (2 * toys.RATE_HZ + 13),
    2 * (2 * toys.RATE_HZ + 13 + 97),
  ]
