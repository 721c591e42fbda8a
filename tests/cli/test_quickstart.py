# SPDX-License-Identifier: Apache-2.0
"""The newcomer's path: each step is a real command, and none runs twice."""

import re
import shlex
import subprocess

import numpy as np
import pytest
import soundfile

from musiclm_jax.cli import main as shell
from musiclm_jax.cli import quickstart, quickstart_page


@pytest.fixture
def commands(monkeypatch):
  """What would have been run; nothing is."""
  ran = []

  def run(command, check):
    del check
    ran.append(command)
    return subprocess.CompletedProcess(command, returncode=0)

  monkeypatch.setattr(quickstart.subprocess, 'run', run)
  monkeypatch.setattr(
    quickstart.quickstart_page, 'write', lambda *_, **__: None
  )
  return ran


def test_every_step_is_a_verb_of_the_command_line(tmp_path):
  steps = quickstart.steps(tmp_path)
  assert {step.argv[0] for step in steps} <= set(shell.verbs())


def test_steps_run_in_order_and_are_named_as_a_user_would_type_them(
  tmp_path, commands, capsys
):
  quickstart.main(['--output', str(tmp_path)])
  steps = quickstart.steps(tmp_path)
  assert [command[3:] for command in commands] == [
    list(step.argv[1:]) for step in steps
  ]
  shown = capsys.readouterr().out
  typed = [line for line in shown.splitlines() if line.startswith('  $ ')]
  assert [shlex.split(line)[2:] for line in typed] == [
    list(step.argv) for step in steps
  ]


def test_a_step_that_has_finished_is_not_run_again(tmp_path, commands):
  first, second, *others = quickstart.steps(tmp_path)
  for step in (first, second):
    step.done.parent.mkdir()
    step.done.write_text('{}')
  quickstart.main(['--output', str(tmp_path)])
  assert [command[3:] for command in commands] == [
    list(step.argv[1:]) for step in others
  ]


def test_your_own_folder_takes_the_place_of_the_default_data(tmp_path):
  default = quickstart.steps(tmp_path)
  yours = quickstart.steps(tmp_path, data_dir='/music')
  assert "--gin.FOLDER='/music'" in yours[0].argv
  assert [s.argv for s in yours[1:]] == [s.argv for s in default[1:]]


def test_a_step_that_fails_ends_the_quickstart_by_name(tmp_path, monkeypatch):
  monkeypatch.setattr(
    quickstart.subprocess,
    'run',
    lambda command, check: subprocess.CompletedProcess(command, returncode=3),
  )
  with pytest.raises(OSError, match='Render 60 tunes.*code 3'):
    quickstart.main(['--output', str(tmp_path)])


@pytest.mark.slow
def test_the_quickstart_trains_the_cascade_and_makes_music(
  tmp_path, monkeypatch
):
  monkeypatch.delenv('XLA_FLAGS')  # Its devices are the machine's.
  quickstart.main(['--output', str(tmp_path)])
  for model, figures in quickstart_page.LEARNED.items():
    for figure in figures:
      values = list(quickstart_page.curve(tmp_path / model, figure).values())
      assert values[-1] < values[0], f'{model}: {figure} is {values}'
  waveforms = sorted((tmp_path / 'generated').glob('*.wav'))
  assert len(waveforms) == len(quickstart.PROMPTS)
  for path in waveforms:
    waveform, rate = soundfile.read(path)
    assert (rate, waveform.size) == (24000, quickstart.SECONDS * 24000)
    assert np.sqrt(np.mean(waveform**2)) > 1e-3  # -60 dB: not silence.
  page = (tmp_path / 'index.html').read_text()
  assert len(re.findall('<audio', page)) >= len(quickstart.PROMPTS)
