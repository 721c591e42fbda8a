# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.cli import evaluate
from tests.evaluation.adherence import test_beats


@pytest.fixture
def folder(tmp_path):
  """What another system might write: two tempos, two rates."""
  lines = []
  for bpm, rate_hz in ((80, test_beats.RATE_HZ), (150, 11_025)):
    clip = test_beats.clicks([1], pulse_seconds=60 / bpm)
    io.write(tmp_path / f'{bpm}.flac', clip, sample_rate_hz=rate_hz)
    heard_bpm = bpm * rate_hz / test_beats.RATE_HZ
    facts = {'tempo_bpm': heard_bpm, 'families': []}
    lines.append({'file': f'{bpm}.flac', 'prompt': 'clicks', 'facts': facts})
  text = '\n'.join(map(json.dumps, lines))
  (tmp_path / 'prompts.jsonl').write_text(text)
  return tmp_path


def test_a_folder_of_another_system_is_heard(folder, capsys):
  output = folder / 'report'
  evaluate.main(
    [
      'adherence',
      f'--generated={folder}',
      f'--prompts={folder / "prompts.jsonl"}',
      f'--output={output}',
    ]
  )
  fields = json.loads((output / 'adherence.json').read_text())
  figures = {figure['name']: figure for figure in fields['figures']}
  assert set(figures) == {'tempo', 'tempo or its octave'}
  octave = figures['tempo or its octave']
  assert octave['values'] == [1.0, 1.0] and octave['shuffled']['mean'] == 0
  shown = capsys.readouterr().out
  assert '| tempo or its octave | 2 | 1.000' in shown
  assert str(folder) in shown
  assert np.isfinite(octave['gain']['mean'])


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_heard(folder):
  cut = {'file': 'cut.wav', 'prompt': 'cut', 'facts': {'tempo_bpm': 99}}
  file = folder / 'prompts.jsonl'
  file.write_text(f'{json.dumps(cut)}\n{file.read_text()}')
  (folder / 'cut.wav').write_bytes(b'RIFF')
  output = folder / 'report'
  evaluate.main(
    ['adherence', f'--generated={folder}', f'--prompts={file}']
    + [f'--output={output}']
  )
  fields = json.loads((output / 'adherence.json').read_text())
  assert fields['num_clips'] == 2
  octave = {figure['name']: figure for figure in fields['figures']}[
    'tempo or its octave'
  ]
  assert octave['values'] == [1.0, 1.0]
  assert '1 of 3 files could not be read' in fields['about']
  assert 'cut.wav' in fields['about']


def test_without_prompts_nothing_is_listened_to(folder):
  with pytest.raises(ValueError, match='no generate.json; say by --prompts'):
    evaluate.main(
      ['adherence', f'--generated={folder}', f'--output={folder / "report"}']
    )
  assert not (folder / 'report').exists()
