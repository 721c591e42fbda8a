# SPDX-License-Identifier: Apache-2.0
import json
import re

import pytest

from musiclm_jax.evaluation import clips, music, music_report
from musiclm_jax.evaluation.prompts import Prompt
from tests.evaluation import toy_ear

EAR = toy_ear.ToyEar()


@pytest.fixture(scope='module')
def report() -> music.MusicReport:
  def clip(name: str, hertz: float, rate_hz: int = 8_000) -> clips.Clip:
    return clips.Clip(
      name=name,
      waveform=toy_ear.tone(hertz, rate_hz=rate_hz),
      sample_rate_hz=rate_hz,
    )

  generated = [
    *(clip(f'{n}.wav', 300 + 100 * n) for n in range(5)),
    clip('far.wav', 3_000, 44_100),
    clips.BadClip(name='cut.wav', reason='is cut short; copy it again.'),
  ]
  reference = [clip(f'{n}.flac', 300 + 90 * n) for n in range(7)]
  prompts = [
    Prompt(text='a loud tone', file='0.wav'),
    Prompt(text='a high tone', file='far.wav'),
  ]
  return music.evaluate(
    music.hear(generated, source='out', embedders=[EAR]),
    music.hear(reference, source='true', embedders=[EAR]),
    embedders=[EAR],
    prompts=prompts,
  )


@pytest.fixture(scope='module')
def written(report, tmp_path_factory):
  folder = tmp_path_factory.mktemp('report') / 'new'
  music_report.write(report, directory=folder, about='By hand.')
  return folder


def test_every_figure_is_in_the_json(written, report):
  found = json.loads((written / 'music.json').read_text())
  assert found['about'] == 'By hand.' and found['num_pairs'] == 5
  assert found['embedders']['toy']['weights_sha256'] == 64 * 'a'
  fad = found['fad']['toy']
  assert fad['distance']['mean'] == report.frechet['toy'].distance.mean > 0
  assert fad['num_samples'] == [18, 21] and len(fad['per_clip']) == 6
  assert found['kld']['toy']['paired']['num_clips'] == 5
  assert found['mcc']['toy']['matched']['num_clips'] == 2
  heard = found['sets']['generated']
  assert [clip['name'] for clip in heard['clips']][-1] == 'far.wav'
  assert heard['bad'][0]['name'] == 'cut.wav'
  assert heard['levels']['rms_db']['mean'] == pytest.approx(-9.03, abs=0.02)


def test_the_tables_name_weights_rates_bad_files_and_the_odd_clip(written):
  text = (written / 'music.md').read_text()
  assert '8000 (5), 44100 (1)' in text
  assert f'soxr to 8000 Hz | `{64 * "a"}`' in text
  assert '- not read: `cut.wav`: is cut short' in text
  assert '**Warning:** 1 of 7 generated files' in text
  furthest = text.split('## Clips far')[1].splitlines()
  assert '| toy | far.wav |' in furthest[4]
  for figure in ('FAD-toy', 'KLD-toy, of pairs', 'MCC-toy above shuffled'):
    assert re.search(rf'\| {figure} .*\| \S+ \[\S+, \S+\] \|', text)


def test_the_page_holds_its_plots_and_fetches_nothing(written):
  page = (written / 'music.html').read_text()
  assert page.count('src="data:image/png;base64,') == 3
  assert 'http' not in page
  assert '<td>FAD-toy ↓</td>' in page


def test_without_pairs_the_table_says_so(report):
  other = music.hear(
    [
      clips.Clip(name='z.wav', waveform=toy_ear.tone(440), sample_rate_hz=8_000)
    ],
    source='true',
    embedders=[EAR],
  )
  found = music.evaluate(report.generated, other, embedders=[EAR])
  text = music_report.to_markdown(found, about='')
  assert '| KLD-toy, of pairs ↓ | no pairs |' in text
