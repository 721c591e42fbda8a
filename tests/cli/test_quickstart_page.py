# SPDX-License-Identifier: Apache-2.0
"""The page of the quickstart, of what its steps leave."""

import html.parser
import json

import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.cli import quickstart_page
from musiclm_jax.evaluation import pictures
from musiclm_jax.inference import demo

PROMPTS = ('a slow waltz', 'a <fast> reel')
CARD = """---
license: "cc0-1.0"
---

# A small MusicLM

What nobody asked for here.

## What it is

| part | weights |
|---|---|
| codec | 1.30 M |

## Training

7 h on two cores.

### Codec

11,000 steps.

## Data

Tunes, 13 h of train.

## Use and limits

Beyond the page.
"""


def write_music(folder):
  folder.mkdir(parents=True)
  tone = 0.3 * np.sin(np.arange(997)).astype(np.float32)
  pieces = []
  for number, prompt in enumerate(PROMPTS):
    pieces.append({'file': f'{number}.wav', 'prompt': prompt})
    io.write(folder / f'{number}.wav', tone, sample_rate_hz=8000)
  pictures.save_spectrograms(
    {'tone': tone}, sample_rate_hz=8000, path=folder / 'spectrograms.png'
  )
  until = {
    'first_sound': {'seconds': 12.8, 'compiling': 7.1},
    'all': {'seconds': 17.2, 'compiling': 8.9},
  }
  made = {'pieces': pieces, 'time_until': until}
  (folder / 'generate.json').write_text(json.dumps(made))


@pytest.fixture
def output(tmp_path, monkeypatch):
  """What a quickstart's steps leave, as far as the page reads it."""
  output = tmp_path / 'output'
  write_music(output / 'demo')
  write_music(output / 'generated')
  for name, figures in quickstart_page.LEARNED.items():
    (output / name / 'metrics').mkdir(parents=True)
    lines = [{'step': 7 * n, **dict.fromkeys(figures, 1 / n)} for n in (1, 2)]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (output / name / 'metrics' / 'metrics.jsonl').write_text(text)
  for name in ('codec', 'stages'):
    (output / 'evaluation' / name).mkdir(parents=True)
    (output / 'evaluation' / name / f'{name}.md').write_text('| a |\n|---|\n')
  picture = (output / 'demo' / 'spectrograms.png').read_bytes()
  (output / 'evaluation' / 'codec' / 'codec.png').write_bytes(picture)
  package = tmp_path / 'demo'
  package.mkdir()
  (package / demo.CARD).write_text(CARD)
  monkeypatch.setattr(demo, 'find', lambda: package)
  return output


class _Reader(html.parser.HTMLParser):
  """What stands under each heading of the second level."""

  def __init__(self, path):
    super().__init__()
    self.found = {}
    self._in_heading = False
    self.feed(path.read_text())

  def handle_starttag(self, tag, attrs):
    self._in_heading = tag == 'h2'
    if self.found:
      list(self.found.values())[-1].append(f'<{tag}>')

  def handle_endtag(self, tag):
    self._in_heading = False

  def handle_data(self, data):
    if self._in_heading:
      self.found[data] = []
    elif self.found and data.strip():
      list(self.found.values())[-1].append(data.strip())


def write(output):
  path = output / 'index.html'
  commands = [('Make music', 'musiclm generate')]
  quickstart_page.write(path, commands=commands, output=output)
  return _Reader(path).found


def test_the_demo_stands_first_and_what_it_is_beside_it(output):
  found = write(output)
  assert list(found)[:4] == [
    'Music from the demo model',
    'The demo model',
    'Music from the model that was trained here',
    'What was done',
  ]
  for heading in ('the demo model', 'the model that was trained here'):
    under = found[f'Music from {heading}']
    assert under.count('<audio>') == 2 and under.count('<img>') == 1
    assert [text for text in under if text in PROMPTS] == [*PROMPTS]
  (told,) = (t for t in found['Music from the demo model'] if 'after' in t)
  assert 'after 13 s and all of them after 17 s, of which compiling' in told
  told = found['The demo model']
  for text in ('<table>', '1.30 M', '7 h on two cores.', '11,000 steps.'):
    assert text in told
  assert 'Tunes, 13 h of train.' in told
  # The rest of the card is for those who hand it on.
  assert not {'What nobody asked for here.', 'Beyond the page.'} & {*told}


def test_the_first_page_has_the_demo_alone(output):
  quickstart_page.write_demo(output / 'index.html', output=output)
  found = _Reader(output / 'index.html').found
  assert list(found) == ['Music from the demo model', 'The demo model']


def test_without_a_demo_the_page_is_of_what_was_trained(output, monkeypatch):
  monkeypatch.setattr(demo, 'find', lambda: None)
  assert 'trained here' in list(write(output))[0]
