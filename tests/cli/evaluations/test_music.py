# SPDX-License-Identifier: Apache-2.0
"""The verb, with an ear that can be checked by hand in place of a network."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from musiclm_jax.cli import evaluate, flags
from musiclm_jax.cli.evaluations import music
from musiclm_jax.evaluation.embedders import loading
from musiclm_jax.inference import assembly
from tests.evaluation import toy_ear


def _write(path: pathlib.Path, hertz: float, *, rate_hz=8_000, channels=1):
  path.parent.mkdir(exist_ok=True)
  tone = toy_ear.tone(hertz, rate_hz=rate_hz)
  soundfile.write(path, np.stack(channels * [tone], axis=1), rate_hz)


@pytest.fixture
def folders(tmp_path):
  """What another system wrote, and its reference."""
  _write(tmp_path / 'out' / 'a.wav', 300, rate_hz=44_100, channels=2)
  _write(tmp_path / 'out' / 'b.flac', 700, rate_hz=22_050)
  (tmp_path / 'out' / 'cut.wav').write_bytes(b'RIFF')
  for name, hertz in (('a', 300), ('b', 500), ('c', 900)):
    _write(tmp_path / 'true' / f'{name}.wav', hertz)
  return tmp_path


@pytest.fixture
def asked(monkeypatch) -> list:
  """Names and paths of the embedders that were loaded."""
  found = []

  def load(name: str, path: str | None = None) -> toy_ear.ToyEar:
    found.append((name, path))
    return toy_ear.ToyEar()

  monkeypatch.setattr(loading, 'load', load)
  return found


def _run(folder: pathlib.Path, *arguments: str) -> dict:
  evaluate.main(
    [
      'music',
      f'--generated={folder / "out"}',
      f'--reference={folder / "true"}',
      f'--output={folder / "report"}',
      *arguments,
    ]
  )
  return json.loads((folder / 'report' / 'music.json').read_text())


def test_a_folder_of_another_system_is_reported_with_how_it_was_treated(
  folders, asked, capsys
):
  found = _run(folders, '--embedders=mulan=here')
  assert asked == [('mulan', 'here')]
  heard = found['sets']['generated']
  assert [
    (clip['name'], clip['sample_rate_hz'], clip['num_channels'])
    for clip in heard['clips']
  ] == [('a.wav', 44_100, 2), ('b.flac', 22_050, 1)]
  assert [clip['name'] for clip in heard['bad']] == ['cut.wav']
  assert found['num_pairs'] == 2 and found['mcc'] == {}
  assert found['fad']['toy']['distance']['mean'] > 0
  printed = capsys.readouterr().out
  assert '| FAD-toy ↓ |' in printed and 'cut.wav' in printed


def test_prompts_come_from_their_file_or_from_what_generate_wrote(
  folders, asked
):
  lines = [
    {'file': 'b.flac', 'prompt': 'a high tone'},
    {'file': 'a.wav', 'prompt': 'a loud tone'},
  ]
  file = folders / 'prompts.jsonl'
  file.write_text('\n'.join(map(json.dumps, lines)))
  by_file = _run(folders, f'--prompts={file}')
  (folders / 'out' / 'generate.json').write_text(json.dumps({'pieces': lines}))
  by_itself = _run(folders)
  assert by_file['mcc'] == by_itself['mcc']
  assert by_file['mcc']['toy']['matched']['num_clips'] == 2


@pytest.mark.parametrize('mulan', [pathlib.Path('m/mulan'), None])
def test_a_model_adds_its_own_ears(asked, monkeypatch, mulan):
  model = assembly.Assembly(
    codec=pathlib.Path('m/codec'),
    semantic=pathlib.Path('m/semantic'),
    mulan=mulan,
    stages={},
  )
  monkeypatch.setattr(assembly, 'read', lambda path: model)
  parser = flags.Parser()
  music.add_arguments(parser)
  options = parser.parse_args(
    ['--generated=a', '--reference=b', '--output=c', '--model=m']
    + ['--embedders=musicnn']
  )
  music.load_embedders(options)
  ears = {'musicnn': None, 'codec': 'm/codec'}
  assert dict(asked) == ears | ({'mulan': 'm/mulan'} if mulan else {})
  asked.clear()
  options.embedders = ['mulan=other']
  music.load_embedders(options)
  assert dict(asked) == {'mulan': 'other', 'codec': 'm/codec'}


@pytest.mark.parametrize(
  'embedders, told',
  [
    ('musicn', "did you mean 'musicnn'"),
    ('codec=a,codec=b', 'names one twice'),
  ],
)
def test_embedders_that_cannot_be_are_a_wrong_command(
  folders, embedders: str, told: str
):
  with pytest.raises(flags.UsageError, match=told):
    _run(folders, f'--embedders={embedders}')
  assert not (folders / 'report').exists()
