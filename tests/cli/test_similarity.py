# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.cli import flags, similarity
from tests.conditioning import toys


@pytest.fixture(scope='module')
def audio(tmp_path_factory):
  """Five seconds of band 2 above a little of band 4, at another rate."""
  path = tmp_path_factory.mktemp('audio') / 'two.wav'
  rate_hz = 3 * toys.RATE_HZ
  wave = toys.tone(2, seconds=5, rate_hz=rate_hz)
  wave = wave + 0.4 * toys.tone(4, seconds=5, rate_hz=rate_hz)
  io.write(path, wave, sample_rate_hz=rate_hz)
  return path


@pytest.fixture(scope='module', params=['towers', 'conditioner'])
def model(request, tmp_path_factory):
  directory = tmp_path_factory.mktemp(request.param)
  publish = {
    'towers': toys.publish_towers,
    'conditioner': toys.publish_conditioner,
  }
  publish[request.param](directory)
  return directory


def test_texts_are_ranked_by_their_cosine(model, audio, capsys):
  texts = ['band 0 [bold]', 'band 4', 'band 2', 'band 2 and band 4']
  similarity.main(['--model', str(model), str(audio), *texts])
  out = capsys.readouterr().out
  rows = [
    [cell.strip() for cell in line.split('│')[1:-1]]
    for line in out.splitlines()
    if '│' in line
  ]
  assert [row[:2] for row in rows] == [
    ['1', 'band 2'],
    ['2', 'band 2 and band 4'],
    ['3', 'band 4'],
    ['4', 'band 0 [bold]'],
  ]
  cosines = [float(row[2]) for row in rows]
  # Power 0.4 squared; so 1 and 0.16 along two bands.
  expected = np.array([1, np.sqrt(0.5) * 1.16, 0.16]) / np.hypot(1, 0.16)
  np.testing.assert_allclose(cosines[:3], expected, atol=0.01)
  assert cosines[3] < 0.05


def test_a_mistake_ends_in_one_line(tmp_path):
  toys.publish_towers(tmp_path)
  arguments = ['--model', tmp_path, 'nowhere.wav', 'band 1']
  done = subprocess.run(
    [sys.executable, '-m', 'musiclm_jax.cli.similarity', *arguments],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  [line] = done.stderr.splitlines()
  assert line.startswith('musiclm similarity: nowhere.wav')


def test_a_folder_without_a_bundle_is_named(audio, tmp_path):
  with pytest.raises(ValueError, match='is not a bundle'):
    similarity.main(['--model', str(tmp_path), str(audio), 'band 1'])


def test_a_text_is_required(audio):
  with pytest.raises(flags.UsageError, match='TEXT'):
    similarity.main(['--model', 'model', str(audio)])
