# SPDX-License-Identifier: Apache-2.0
"""Pairs, what the page tells and what it does not, and the page in a browser."""

import base64
import html.parser
import io as streams
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from musiclm_jax.audio import io, loudness
from musiclm_jax.evaluation import listening, prompts

RATE_HZ = 8_000
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
TEXTS = ['slow', 'fast & <b>loud</b>', 'calm', 'dance', '</script>']


def write_folder(folder, *, gain, tone_hz, with_prompts=True, rate_hz=RATE_HZ):
  """A tone a prompt; all of one folder equally loud."""
  folder.mkdir(parents=True)
  time = np.arange(rate_hz) / rate_hz
  pieces = []
  for number, text in enumerate(TEXTS):
    tone = gain * np.sin(2 * np.pi * (tone_hz + number) * time)
    name = f'{number}.wav'
    io.write(folder / name, tone.astype(np.float32), sample_rate_hz=rate_hz)
    pieces.append({'file': name, 'prompt': text})
  if with_prompts:
    text = json.dumps({'pieces': pieces})
    (folder / prompts.GENERATED_JSON).write_text(text)
  return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp('listening')
  return (
    write_folder(root / 'ours', gain=0.5, tone_hz=400),
    write_folder(root / 'theirs', gain=0.02, tone_hz=800),
  )


@pytest.fixture(scope='module')
def page(folders, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'new' / 'test.html'
  pairs = listening.pair_up(*folders)
  key = listening.write(path, pairs, systems=('ours', 'theirs'), seed=3)
  return path, json.loads(key.read_text())


class _Reader(html.parser.HTMLParser):
  """The text of each element that has an id, and how many there are."""

  def __init__(self, text):
    super().__init__()
    self.found, self.tags, self._open = {}, [], None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self._open = dict(attrs).get('id')

  def handle_data(self, data):
    if self._open:
      self.found[self._open] = self.found.get(self._open, '') + data

  def handle_endtag(self, tag):
    self._open = None


def data_of(path):
  return json.loads(_Reader(path.read_text()).found['data'])


def waveform_of(url):
  kind, _, encoded = url.partition(';base64,')
  assert kind == 'data:audio/flac'
  return soundfile.read(streams.BytesIO(base64.b64decode(encoded)))


def pitch_of(waveform, rate_hz):
  spectrum = np.abs(np.fft.rfft(waveform))
  return round(np.argmax(spectrum) * rate_hz / len(waveform))


def test_both_clips_of_a_pair_are_as_long_as_the_shorter(tmp_path):
  draw = np.random.default_rng(0)
  paths = tmp_path / 'a.wav', tmp_path / 'b.wav'
  for path, rate_hz, seconds in zip(paths, (RATE_HZ, 11_025), (3, 2)):
    noise = draw.uniform(-0.5, 0.5, seconds * rate_hz).astype(np.float32)
    io.write(path, noise, sample_rate_hz=rate_hz)
  pair = listening.Pair(prompt='', first=paths[0], second=paths[1])
  for url in listening._clips(pair):
    file = streams.BytesIO(base64.b64decode(url.partition(',')[2]))
    assert soundfile.info(file).duration == 2


def test_clips_without_a_text_go_by_name(tmp_path):
  folders = [
    write_folder(tmp_path / name, gain=0.1, tone_hz=300) for name in ('a', 'b')
  ]
  for folder in folders:
    pieces = [
      {'file': f'{n}.wav', 'prompt': None, 'label': 'continuation'}
      for n in range(len(TEXTS))
    ]
    (folder / prompts.GENERATED_JSON).write_text(json.dumps({'pieces': pieces}))
  found = listening.pair_up(*folders)
  assert [pair.prompt for pair in found] == len(TEXTS) * ['']


def test_of_samples_of_one_prompt_the_first_of_each_folder_are_a_pair(tmp_path):
  # As `musiclm generate` leaves them: two samples a prompt here, three there,
  # in another order, and a prompt that only one of them has.
  made = {
    'a': ['slow', 'slow', 'calm', 'calm', 'loud'],
    'b': ['calm', 'calm', 'calm', 'slow', 'slow', 'slow'],
  }
  for name, texts in made.items():
    (tmp_path / name).mkdir()
    pieces = []
    for number, text in enumerate(texts):
      (tmp_path / name / f'{number:03}.wav').touch()
      pieces.append({'file': f'{number:03}.wav', 'prompt': text})
    (tmp_path / name / prompts.GENERATED_JSON).write_text(
      json.dumps({'pieces': pieces})
    )
  found = listening.pair_up(tmp_path / 'a', tmp_path / 'b')
  assert [(p.prompt, p.first.name, p.second.name) for p in found] == [
    ('slow', '000.wav', '003.wav'),
    ('calm', '002.wav', '000.wav'),
  ]
  swapped = listening.pair_up(tmp_path / 'b', tmp_path / 'a')
  assert {(p.prompt, p.second, p.first) for p in swapped} == {
    (p.prompt, p.first, p.second) for p in found
  }


def test_the_words_of_either_folder_are_shown_where_clips_go_by_name(tmp_path):
  for name, text in (('a', None), ('b', 'slow')):
    (tmp_path / name).mkdir()
    (tmp_path / name / '0.wav').touch()
    pieces = {'pieces': [{'file': '0.wav', 'prompt': text}]}
    (tmp_path / name / prompts.GENERATED_JSON).write_text(json.dumps(pieces))
  (pair,) = listening.pair_up(tmp_path / 'a', tmp_path / 'b')
  assert pair.prompt == 'slow'


def test_clips_go_by_prompt_or_by_name(folders, tmp_path):
  pairs = listening.pair_up(*folders)
  assert [pair.prompt for pair in pairs] == TEXTS
  assert all(p.first.name == p.second.name for p in pairs)
  other = write_folder(
    tmp_path / 'other', gain=0.1, tone_hz=300, with_prompts=False
  )
  (other / '0.wav').unlink()
  (other / '1.wav').rename(other / '1.txt')
  pairs = listening.pair_up(folders[0], other)
  assert [(p.prompt, p.second.name) for p in pairs] == [
    (TEXTS[n], f'{n}.wav') for n in (2, 3, 4)
  ]
  (tmp_path / 'new').mkdir()
  with pytest.raises(ValueError, match='holds no audio'):
    listening.pair_up(other, tmp_path / 'new')
  (other / '4.wav').rename(tmp_path / 'new' / 'z.wav')
  with pytest.raises(ValueError, match='no clip in common'):
    listening.pair_up(other, tmp_path / 'new')


def test_the_key_tells_which_clip_is_whose_and_the_page_does_not(page):
  path, key = page
  shown = data_of(path)
  assert shown['page'] == key['page']
  assert {pair['prompt'] for pair in shown['pairs']} == set(TEXTS)
  swapped = [pair['swapped'] for pair in key['pairs']]
  assert set(swapped) == {True, False}
  for pair, told in zip(shown['pairs'], key['pairs']):
    assert pair['prompt'] == told['prompt']
    number = TEXTS.index(told['prompt'])
    pitches = [pitch_of(*waveform_of(url)) for url in pair['clips']]
    wanted = [400 + number, 800 + number]
    assert pitches == (wanted[::-1] if told['swapped'] else wanted)
  for word in ('ours', 'theirs', '.wav', 'swapped', str(path.parent)):
    assert word not in path.read_text()


def test_both_clips_of_a_pair_are_equally_loud_and_do_not_clip(page):
  for pair in data_of(page[0])['pairs']:
    loud = []
    for url in pair['clips']:
      waveform, rate_hz = waveform_of(url)
      assert np.abs(waveform).max() < 1
      loud.append(
        loudness.integrated_lufs(
          waveform.astype(np.float32), sample_rate_hz=rate_hz
        )
      )
    np.testing.assert_allclose(loud, -23, atol=0.1)


def test_the_seed_decides_order_and_sides(folders, tmp_path):
  def key(seed):
    path = listening.write(
      tmp_path / 'test.html',
      listening.pair_up(*folders),
      systems=('a', 'b'),
      seed=seed,
    )
    return json.loads(path.read_text())

  assert key(3) == key(3)
  assert key(3)['pairs'] != key(4)['pairs']
  assert key(3)['page'] != key(4)['page']
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'test.html',
    'test.key.json',
  ]


def test_a_silent_clip_and_other_rates_are_left_as_they_are(folders, tmp_path):
  other = write_folder(tmp_path / 'x', gain=0.0, tone_hz=300, rate_hz=11_025)
  listening.write(
    tmp_path / 'test.html',
    listening.pair_up(folders[0], other),
    systems=('a', 'b'),
    seed=0,
  )
  for pair in data_of(tmp_path / 'test.html')['pairs']:
    rates = {
      rate: np.abs(clip).max() for clip, rate in map(waveform_of, pair['clips'])
    }
    assert rates[11_025] == 0 and rates[RATE_HZ] > 0.05


def test_a_prompt_cannot_end_the_script(page):
  reader = _Reader(page[0].read_text())
  assert reader.tags.count('script') == 2
  assert 'b' not in reader.tags


# Presses keys as a listener would, and leaves what would be saved in the page.
_DRIVE = """
<script>
const press = (key) => document.dispatchEvent(
  new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
const log = [];
const seen = () => log.push([find('prompt').textContent,
  find('count').textContent, find('progress').value, buttons[0].disabled]);
press('1');                          // Nothing was heard yet: no vote.
seen();
for (const preference of ['1', '5', '3', '2', '4']) {
  press('ArrowLeft');
  press('ArrowRight');
  players.forEach((player) => player.dispatchEvent(new Event('play')));
  press(preference);
  seen();
}
press('Backspace');
players.forEach((player) => player.dispatchEvent(new Event('play')));
buttons[2].click();
seen();
const made = [];
URL.createObjectURL = (blob) => { made.push(blob); return '#votes'; };
press('s');
made[0].text().then((saved) => {
  const shown = document.createElement('pre');
  shown.id = 'report';
  shown.textContent = JSON.stringify({log, saved: JSON.parse(saved),
    isOver: !find('over').hidden, hidden: find('trial').hidden});
  document.body.append(shown);
});
</script>
"""


@pytest.mark.skipif(not CHROMIUM, reason='needs Chromium')
def test_the_page_works_in_a_browser(page, tmp_path):
  path, key = page
  driven = tmp_path / 'driven.html'
  driven.write_text(path.read_text().replace('</body>', _DRIVE + '</body>'))
  found = subprocess.run(
    [
      CHROMIUM,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--autoplay-policy=no-user-gesture-required',
      f'--user-data-dir={tmp_path / "profile"}',
      '--virtual-time-budget=5000',
      '--dump-dom',
      driven.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=100,
    check=True,
  )
  report = json.loads(_Reader(found.stdout).found['report'])
  texts = [pair['prompt'] for pair in key['pairs']]
  assert report['log'][0] == [texts[0], '1 of 5', 0, True]
  for number, text in enumerate(texts[1:], start=1):
    assert report['log'][number] == [text, f'{number + 1} of 5', number, True]
  assert report['saved'] == {
    'page': key['page'],
    'votes': [
      {'pair': pair, 'preference': preference}
      for pair, preference in enumerate([-2, 2, 0, -1, 0])
    ],
  }
  assert report['isOver'] and report['hidden']
  assert re.search(r'<audio id="clip0"[^>]*src="data:audio/flac', found.stdout)
