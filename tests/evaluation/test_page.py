# SPDX-License-Identifier: Apache-2.0
"""A page of results: whole in one file, and what stands in it is shown."""

import base64
import html.parser
import re

import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.evaluation import page, pictures


class _Tags(html.parser.HTMLParser):
  """Every tag with its attributes, and all text."""

  def __init__(self, source):
    super().__init__()
    self.tags, self.words = [], ''
    self.feed(source)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.words += data


@pytest.fixture
def files(tmp_path):
  tone = np.sin(np.arange(7919) / 7).astype(np.float32)
  io.write(tmp_path / 'tone.wav', tone, sample_rate_hz=24000)
  pictures.save_curves({'loss': {0: 3.0, 7: 2.0}}, path=tmp_path / 'loss.svg')
  return tmp_path


def test_sound_and_pictures_lie_in_the_page_and_nothing_is_fetched(files):
  path = files / 'out' / 'index.html'
  page.write(
    path,
    title='Results',
    sections=[
      page.Section(
        title='One',
        audio={'A tone': files / 'tone.wav'},
        pictures={'Its loss': files / 'loss.svg'},
      )
    ],
  )
  shown = _Tags(path.read_text())
  (audio,) = [a['src'] for tag, a in shown.tags if tag == 'audio']
  (image,) = [a['src'] for tag, a in shown.tags if tag == 'img']
  decoded = base64.b64decode(audio.partition(',')[2])
  assert decoded == (files / 'tone.wav').read_bytes()
  assert image.startswith('data:image/svg+xml;base64,')
  assert not re.search(r'(src|href)="(?!data:)', path.read_text())


def test_tables_are_tables_and_html_in_a_prompt_is_shown_not_run(files):
  path = files / 'index.html'
  page.write(
    path,
    title='a & b',
    sections=[
      page.Section(
        title='<b>', text='| x | y |\n| --- | --- |\n| 1 | <script> |'
      )
    ],
  )
  shown = _Tags(path.read_text())
  tags = [tag for tag, _ in shown.tags]
  assert tags.count('td') == 2
  assert 'script' not in tags and '<script>' in shown.words
  assert 'b' not in tags and 'a & b' in shown.words


def test_a_file_that_no_browser_plays_is_an_error_by_name(files):
  (files / 'tone.flac').write_bytes(b'fLaC')
  section = page.Section(title='One', audio={'A tone': files / 'tone.flac'})
  with pytest.raises(ValueError, match=r'tone\.flac .* \.wav'):
    page.write(files / 'index.html', title='Results', sections=[section])


def test_a_page_that_is_written_again_is_never_half_there(tmp_path):
  path = tmp_path / 'index.html'
  path.write_text('the page before')
  with path.open() as reader:
    page.write(path, title='Results', sections=[])
    assert reader.read() == 'the page before'
  assert 'Results' in path.read_text()
  assert [*tmp_path.iterdir()] == [path]
