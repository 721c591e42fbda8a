# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.checkpoints import text_file


def test_a_text_takes_the_place_of_the_one_before(tmp_path):
  path = tmp_path / 'page.md'
  for text in ('short ‖', 'longer than that'):
    text_file.write(path, text)
    assert path.read_text(encoding='utf-8') == text
  assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_text_and_nothing_beside(
  tmp_path,
):
  path = tmp_path / 'page.md'
  text_file.write(path, 'old')
  with pytest.raises(UnicodeEncodeError):
    text_file.write(path, 'new \ud800')
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]
