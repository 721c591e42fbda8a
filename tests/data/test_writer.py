# SPDX-License-Identifier: Apache-2.0
"""Writing a corpus: same bytes, all or nothing, bad clips counted."""

import dataclasses
import fcntl
import hashlib
import os
import subprocess
import sys
import time

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


def _digests(directory):
  return {
    str(path.relative_to(directory)): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in sorted(directory.rglob('*'))
    if path.is_file() and path.name != '.lock'
  }


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


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
  source = toys.Sines(faults=FAULTS)
  for workers in (0, 1, 3):
    toys.write(
      tmp_path / str(workers), source, num_workers=workers, max_bad_share=0.6
    )
  alone = _digests(tmp_path / '0')
  assert len(alone) == 3 + 4 * 3  # The corpus' own files, and four shards'.
  assert alone == _digests(tmp_path / '1') == _digests(tmp_path / '3')


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
  assert _digests(stopped) == _digests(whole)


def test_a_finished_corpus_is_not_written_again(tmp_path):
  source = toys.Sines(log=tmp_path / 'log')
  info = toys.write(tmp_path / 'corpus', source)
  (tmp_path / 'log').unlink()
  assert toys.write(tmp_path / 'corpus', source) == info
  assert not (tmp_path / 'log').exists()


def test_a_worker_that_dies_says_what_to_do_and_keeps_complete_shards(tmp_path):
  source = toys.Sines(kill_at=10, log=tmp_path / 'log')
  with pytest.raises(OSError, match='complete shards are kept'):
    toys.write(tmp_path / 'corpus', source, num_workers=2)
  assert (tmp_path / 'corpus' / 'shard-00000').is_dir()
  assert not (tmp_path / 'corpus' / 'shard-00003').exists()


@pytest.mark.slow
def test_a_killed_run_takes_its_workers_along_and_the_next_one_finishes(
  tmp_path,
):
  log = tmp_path / 'log'
  source = toys.Sines(num_clips=23, seconds_a_clip=0.1, log=log)
  program = (
    'import pathlib\n'
    'from tests.data import toys\n'
    'if __name__ == "__main__":\n'
    f'  corpus = pathlib.Path({str(tmp_path / "corpus")!r})\n'
    f'  log = pathlib.Path({str(log)!r})\n'
    '  source = toys.Sines(num_clips=23, seconds_a_clip=0.1, log=log)\n'
    '  toys.write(corpus, source, num_workers=2)\n'
  )
  script = tmp_path / 'script.py'
  script.write_text(program)
  environment = {**os.environ, 'PYTHONPATH': os.getcwd()}
  with subprocess.Popen([sys.executable, script], env=environment) as run:
    deadline = time.monotonic() + 60
    while not list((tmp_path / 'corpus').glob('shard-*')):
      assert run.poll() is None and time.monotonic() < deadline
      time.sleep(0.05)
    run.kill()
  time.sleep(0.3)
  loads = len(log.read_text().split())
  time.sleep(0.5)
  assert len(log.read_text().split()) == loads < 23  # The workers are gone.
  toys.write(tmp_path / 'corpus', source)
  toys.write(tmp_path / 'whole', source)
  assert _digests(tmp_path / 'corpus') == _digests(tmp_path / 'whole')


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


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(
  tmp_path,
):
  # A limit on the size of a file fails a write the way a full disk does.
  program = (
    'import resource, signal, pathlib\n'
    'from tests.data import toys\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (13000, 13000))\n'
    f'toys.write(pathlib.Path({str(tmp_path)!r}), toys.Sines())\n'
  )
  run = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert run.returncode == 1
  last_line = run.stderr.strip().splitlines()[-1]
  assert last_line.startswith('OSError: The disk is full')
  assert 'make room and run again' in last_line
  assert sorted(os.listdir(tmp_path)) == ['.lock', 'plan.json']
