# SPDX-License-Identifier: Apache-2.0
"""The verb, with an ear that can be checked by hand in place of a network."""

import argparse
import json

import pytest
import soundfile

from musiclm_jax.cli import evaluate
from musiclm_jax.cli.evaluations import sensitivity
from musiclm_jax.evaluation.embedders import loading
from tests.evaluation import toy_codec, toy_ear

RATE_HZ = 24_000  # Of the toy codec.


def _run(folder, *arguments: str) -> None:
  evaluate.main(
    [
      'sensitivity',
      f'--reference={folder}',
      f'--output={folder / "report"}',
      *arguments,
    ]
  )


def _write(folder, count: int) -> None:
  for n in range(count):
    tone = toy_ear.tone(200 + 60 * n, amplitude=0.3, rate_hz=RATE_HZ)
    soundfile.write(folder / f'{n}.wav', tone, RATE_HZ)


@pytest.mark.slow
def test_what_is_worse_is_further_and_what_is_unchanged_is_not(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(loading, 'load', lambda name, path: toy_ear.ToyEar())
  _write(tmp_path, 7)
  (tmp_path / 'codec').mkdir()
  toy_codec.publish(tmp_path / 'codec')
  _run(tmp_path, f'--codec={tmp_path / "codec"}')
  sets = json.loads((tmp_path / 'report' / 'sensitivity.json').read_text())
  fad = {
    name: one['fad']['toy']['distance']['mean']
    for name, one in sets['sets'].items()
  }
  assert fad['unchanged'] < 1e-9 < fad[f'through {tmp_path / "codec"}'] < 1e-2
  assert fad['noise 30 dB below'] < fad['noise 10 dB below']
  assert fad['60 dB softer'] > 0.02
  kld = sets['sets']['60 dB softer']['kld']['toy']
  assert kld['paired']['num_clips'] == 4  # Every second of seven.
  assert sets['sets']['other pieces']['kld']['toy']['paired'] is None
  printed = capsys.readouterr().out
  assert '| other pieces | -13.' in printed and '| no pairs |' in printed


def test_a_file_that_cannot_be_read_is_told(tmp_path):
  _write(tmp_path, 4)
  (tmp_path / '9.wav').write_text('no music')
  options = argparse.Namespace(reference=str(tmp_path), codec=None)
  sets = sensitivity._sets(options)
  for name in ('unchanged', 'other pieces'):
    assert sets[name].count == 2
    assert sets[name].source.endswith(
      'without 1 files that could not be read, such as 9.wav'
    )


def test_a_few_clips_cannot_be_halved(tmp_path, monkeypatch):
  monkeypatch.setattr(loading, 'load', lambda name, path: toy_ear.ToyEar())
  _write(tmp_path, 3)
  with pytest.raises(ValueError, match='3 clips.*give 4 or more'):
    _run(tmp_path)
