# SPDX-License-Identifier: Apache-2.0
"""The newcomer's path: each step is a real command, and none runs twice."""

import shlex
import subprocess

import pytest
import soundfile

from musiclm_jax.cli import main as shell
from musiclm_jax.cli import quickstart


@pytest.fixture
def commands(monkeypatch):
  """What would have been run; nothing is."""
  ran = []

  def run(command, check):
    del check
    ran.append(command)
    return subprocess.CompletedProcess(command, returncode=0)

  monkeypatch.setattr(quickstart.subprocess, 'run', run)
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
  done = tmp_path / 'tunebook' / 'corpus.json'
  done.parent.mkdir()
  done.write_text('{}')
  quickstart.main(['--output', str(tmp_path)])
  verbs = [command[2].rpartition('.')[2] for command in commands]
  assert verbs == ['train', 'evaluate', 'reconstruct']


def test_a_step_that_fails_ends_the_quickstart_by_name(tmp_path, monkeypatch):
  monkeypatch.setattr(
    quickstart.subprocess,
    'run',
    lambda command, check: subprocess.CompletedProcess(command, returncode=3),
  )
  with pytest.raises(OSError, match='Render 60 tunes.*code 3'):
    quickstart.main(['--output', str(tmp_path)])


@pytest.mark.slow
def test_the_quickstart_ends_with_a_reconstruction_of_the_asked_length(
  tmp_path,
):
  quickstart.main(['--output', str(tmp_path)])
  evaluation = tmp_path / 'evaluation'
  original, _ = soundfile.read(evaluation / quickstart.ORIGINAL)
  made, rate = soundfile.read(evaluation / quickstart.RECONSTRUCTION)
  assert rate == 24000
  assert made.shape == original.shape
  assert made.std() > 0.1 * original.std()
  assert (evaluation / 'codec.png').stat().st_size > 10_000
