# SPDX-License-Identifier: Apache-2.0
"""Folders that are mirrored, with whole files only."""

import pathlib

import pytest
from etils import epath

from musiclm_jax.checkpoints.buckets import Mirror, folder


def test_local_folder_is_its_own_mirror(tmp_path):
  mirror = Mirror(tmp_path / 'run')
  assert mirror.local == tmp_path / 'run'
  assert mirror.local.is_dir()
  (mirror.local / 'lines').write_text('a')
  mirror.close()
  assert (tmp_path / 'run' / 'lines').read_text() == 'a'


def test_what_grows_arrives_whole_and_nothing_else_is_copied(buckets):
  mirror = Mirror('gs://b/run')
  there = buckets / 'b' / 'run'
  (mirror.local / 'sub').mkdir()
  (mirror.local / 'sub' / 'still').write_text('once')
  with (mirror.local / 'lines').open('a') as lines:
    lines.write('a\n')
    lines.flush()
    mirror.push()
    assert (there / 'lines').read_text() == 'a\n'
    (there / 'sub' / 'still').write_text('touched')
    lines.write('b\n')
    lines.flush()
    mirror.push_if_due(every_seconds=1000.0)
    assert (there / 'lines').read_text() == 'a\n'
  mirror.close()
  assert (there / 'lines').read_text() == 'a\nb\n'
  assert (there / 'sub' / 'still').read_text() == 'touched'
  assert not mirror.local.exists()


def test_what_a_bucket_refuses_once_arrives_the_next_time(
  buckets, monkeypatch, caplog
):
  mirror = Mirror('gs://b/run')
  (mirror.local / 'lines').write_text('a\n')

  def refuse(path, content):
    raise OSError('503: try later')

  with monkeypatch.context() as patch:
    patch.setattr(epath.Path, 'write_bytes', refuse, raising=False)
    patch.setattr(type(folder('gs://b/run')), 'write_bytes', refuse)
    mirror.push_if_due(every_seconds=0.0)
    assert '503: try later' in caplog.text
    with pytest.raises(OSError, match='try later'):
      mirror.push()
  mirror.push_if_due(every_seconds=0.0)
  assert (buckets / 'b' / 'run' / 'lines').read_text() == 'a\n'
  mirror.close()


def test_what_the_bucket_has_is_gone_on_with(buckets):
  first = Mirror('gs://b/run')
  (first.local / 'lines').write_text('a\n')
  first.close()
  second = Mirror('gs://b/run')
  second.pull('lines')
  second.pull('absent')
  assert [path.name for path in second.local.iterdir()] == ['lines']
  assert (second.local / 'lines').read_text() == 'a\n'
  second.close()


def test_folder_of_a_bucket_keeps_its_name():
  assert str(folder('gs://b/a') / 'x') == 'gs://b/a/x'
  assert folder('a/b') == pathlib.Path('a/b')
