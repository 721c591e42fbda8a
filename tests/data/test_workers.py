# SPDX-License-Identifier: Apache-2.0
"""Workers: same bytes however many, and what happens when one dies."""

import os
import subprocess
import sys
import time

import pytest

from tests.data import toys


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
  assert toys.digests(tmp_path / 'corpus') == toys.digests(tmp_path / 'whole')


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


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
  source = toys.Sines(faults=((1, 'silent'), (6, 'corrupt')))
  for workers in (0, 1, 3):
    toys.write(
      tmp_path / str(workers), source, num_workers=workers, max_bad_share=0.6
    )
  alone = toys.digests(tmp_path / '0')
  assert len(alone) == 3 + 4 * 3  # The corpus' own files, and four shards'.
  assert alone == toys.digests(tmp_path / '1') == toys.digests(tmp_path / '3')
