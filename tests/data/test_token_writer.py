# SPDX-License-Identifier: Apache-2.0
"""Writing codes: all or nothing, by several processes, of one set of models."""

import dataclasses
import json
import subprocess
import sys

import pytest

from musiclm_jax.data import corpus, token_corpus, token_shards, writer
from tests.data import token_toys, toys


def test_the_toy_is_an_encoder():
  assert isinstance(token_toys.CountingEncoder(), token_shards.ClipEncoder)


def test_processes_share_the_shards_and_the_last_one_finishes(tmp_path):
  whole = token_toys.write(tmp_path / 'one')
  encoders = [token_toys.CountingEncoder() for _ in range(3)]
  found = [
    token_toys.write(
      tmp_path / 'three', encoder, process_index=index, process_count=3
    )
    for index, encoder in enumerate(encoders)
  ]
  assert found == [None, None, whole]
  # 11 clips in shards of 3: process 0 has the shards 0 and 3.
  assert [encoder.encoded for encoder in encoders] == [
    [0, 1, 2, 9, 10],
    [3, 4, 5],
    [6, 7, 8],
  ]
  one, three = (
    toys.digests(tmp_path / name / 'tokens') for name in ('one', 'three')
  )
  assert one == three
  # Shards, plan, index, usage, codebooks, manifest.
  assert len(one) == 4 * 4 + 5


def test_a_finished_corpus_without_codebooks_is_given_them(tmp_path):
  token_toys.write(tmp_path)
  wanted = toys.digests(tmp_path / 'tokens')
  (tmp_path / 'tokens' / token_corpus.CODEBOOKS_FILE).unlink()
  encoder = token_toys.CountingEncoder()
  token_toys.write(tmp_path, encoder)
  assert encoder.encoded == []
  assert toys.digests(tmp_path / 'tokens') == wanted


def test_a_killed_run_goes_on_with_the_missing_shards(tmp_path):
  token_toys.write(tmp_path / 'whole')
  code = (
    'import pathlib, sys; from tests.data import token_toys;'
    ' token_toys.write(pathlib.Path(sys.argv[1]),'
    ' token_toys.CountingEncoder(kill_at=7))'
  )
  killed = subprocess.run(
    [sys.executable, '-c', code, tmp_path / 'killed'], check=False
  )
  assert killed.returncode == 9
  tokens = tmp_path / 'killed' / 'tokens'
  assert (tokens / 'shard-00001').is_dir()
  assert not (tokens / 'shard-00002').exists()
  assert (tokens / '.shard-00002.partial').is_dir()
  with pytest.raises(ValueError, match='no finished token corpus'):
    token_corpus.TokenCorpus(tokens)
  encoder = token_toys.CountingEncoder()
  token_toys.write(tmp_path / 'killed', encoder)
  assert encoder.encoded == [6, 7, 8, 9, 10]
  assert toys.digests(tokens) == toys.digests(tmp_path / 'whole' / 'tokens')


def test_a_finished_corpus_is_not_written_again(tmp_path):
  info = token_toys.write(tmp_path, num_clips=5)
  encoder = token_toys.CountingEncoder()
  assert token_toys.write(tmp_path, encoder, num_clips=5) == info
  assert not encoder.encoded


def test_codes_of_other_models_are_an_error_that_names_both(tmp_path):
  token_toys.write(tmp_path, num_clips=5)
  other = dataclasses.replace(token_toys.FAST, fingerprint='b')
  with pytest.raises(
    ValueError, match=r'acoustic codes.* of a \(there\).* of b \(asked for\)'
  ):
    token_toys.write(tmp_path, token_toys.CountingEncoder(acoustic=other))
  with pytest.raises(ValueError, match=r'windows \[3, 2\] \(there\)'):
    token_toys.write(tmp_path, condition_seconds=(3,))
  with pytest.raises(ValueError, match='clips .* \\(there\\)'):
    token_toys.write(tmp_path, max_clips=4)


def test_rejected_clips_are_counted_and_too_many_end_the_run(tmp_path):
  toys.write(tmp_path / 'audio', toys.Sines(num_clips=5))
  path = tmp_path / 'audio' / 'shard-00001' / corpus.AUDIO_FILE
  path.write_bytes(path.read_bytes()[:100])  # The clips 3 and 4.
  encoder = token_toys.CountingEncoder(refuse=[1])
  with pytest.raises(ValueError, match='more than the allowed share of 0.01:'):
    token_toys.write(tmp_path, encoder)
  info = token_toys.write(tmp_path, encoder, max_bad_share=0.7)
  assert {k: n.clips for k, n in info.audio.rejected.items()} == {
    'unreadable': 2,
    'no codes': 1,
  }
  tokens = token_corpus.TokenCorpus(tmp_path / 'tokens')
  assert [tokens.describe(clip).id for clip in range(2)] == ['sine-0', 'sine-2']
  assert 'rejected 3 of 5: 2 unreadable, 1 no codes.' in info.summary()
  assert 'acoustic: 4 × 1021 codes, 5 Hz, of a' in info.summary()


def test_an_encoder_that_gives_too_few_codes_is_a_defect(tmp_path):
  encoder = token_toys.CountingEncoder(short=True)
  with pytest.raises(ValueError, match=r"of 'mulan'.*at least \[3, 2, 3\] are"):
    token_toys.write(tmp_path, encoder)


def test_only_the_first_clips_are_encoded_on_demand(tmp_path):
  encoder = token_toys.CountingEncoder()
  info = token_toys.write(tmp_path, encoder, max_clips=4)
  assert encoder.encoded == [0, 1, 2, 3]
  assert info.audio.num_clips == 4
  assert info.audio.source == 'sines'
  with pytest.raises(ValueError, match='0 clips are to be tokenized'):
    token_toys.write(tmp_path, max_clips=0)
  with pytest.raises(ValueError, match='Process 2 is not of 2'):
    token_toys.write(tmp_path, process_index=2, process_count=2)


def test_two_processes_do_not_write_one_shard(tmp_path):
  (tmp_path / 'tokens').mkdir()
  path = tmp_path / 'tokens' / writer.LOCK_FILE
  # Byte 1 + 2 stands for shard 2; another process holds it.
  code = (
    'import fcntl, sys; file = open(sys.argv[1], "wb");'
    ' fcntl.lockf(file, fcntl.LOCK_EX, 1, 3); print(flush=True); input()'
  )
  holder = subprocess.Popen(
    [sys.executable, '-c', code, path],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  try:
    holder.stdout.readline()
    with pytest.raises(ValueError, match='is writing shard 2 of'):
      token_toys.write(tmp_path)
    # Another process' share is free.
    token_toys.write(tmp_path, process_index=0, process_count=3)
  finally:
    holder.communicate(b'\n')
  assert token_toys.write(tmp_path) is not None
  plan = json.loads((tmp_path / 'tokens' / writer.PLAN_FILE).read_text())
  assert plan['clips_per_shard'] == 3


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
  # A limit on the size of a file fails a write the way a full disk does.
  toys.write(tmp_path / 'audio', toys.Sines(num_clips=5))
  code = (
    'import pathlib, resource, signal, sys; from tests.data import token_toys;'
    ' signal.signal(signal.SIGXFSZ, signal.SIG_IGN);'
    ' resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512));'
    ' token_toys.write(pathlib.Path(sys.argv[1]))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, tmp_path],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  last_line = done.stderr.strip().split('\n')[-1]
  assert 'The disk is full' in last_line, done.stderr
  tokens = tmp_path / 'tokens'
  assert not list(tokens.glob('.*.partial'))
  assert not list(tokens.glob('shard-*'))
  assert token_toys.write(tmp_path) is not None
