# SPDX-License-Identifier: Apache-2.0
"""The newcomer's path: each step is a real command, and none runs twice."""

import re
import shlex
import subprocess

import numpy as np
import pytest
import soundfile

from musiclm_jax.cli import generate_files, quickstart, quickstart_page
from musiclm_jax.cli import main as shell
from musiclm_jax.inference import demo


@pytest.fixture(params=['a demo', 'no demo'])
def has_demo(request, monkeypatch, tmp_path):
  there = request.param == 'a demo'
  monkeypatch.setattr(demo, 'find', lambda: tmp_path if there else None)
  return there


@pytest.fixture
def commands(monkeypatch, has_demo):
  """What would have been run, and 'page' for a page; nothing is."""
  ran = []

  def run(command, check):
    del check
    ran.append(command)
    return subprocess.CompletedProcess(command, returncode=0)

  monkeypatch.setattr(quickstart.subprocess, 'run', run)
  for name in ('write', 'write_demo'):
    monkeypatch.setattr(
      quickstart_page, name, lambda path, **_: ran.append(['page'])
    )
  return ran


def steps_of(commands):
  return [command[3:] for command in commands if command != ['page']]


def test_every_step_is_a_verb_of_the_command_line(tmp_path):
  steps = quickstart.steps(tmp_path, has_demo=True)
  assert {step.argv[0] for step in steps} <= set(shell.verbs())


def test_steps_run_in_order_and_are_named_as_a_user_would_type_them(
  tmp_path, commands, has_demo, capsys
):
  quickstart.main(['--output', str(tmp_path)])
  steps = quickstart.steps(tmp_path, has_demo=has_demo)
  assert steps_of(commands) == [list(step.argv[1:]) for step in steps]
  shown = capsys.readouterr().out
  typed = [line for line in shown.splitlines() if line.startswith('  $ ')]
  assert [shlex.split(line)[2:] for line in typed] == [
    list(step.argv) for step in steps
  ]
  # Left out, but not in silence.
  assert ('No demo model comes with this version' in shown) != has_demo


def test_the_demo_is_heard_before_anything_is_trained(tmp_path):
  first, *others = quickstart.steps(tmp_path, has_demo=True)
  assert first.typed.startswith("musiclm generate '--prompt=a slow waltz on")
  assert first.typed.endswith(f'--output={tmp_path}/demo')
  assert '--model' not in first.typed
  assert others == quickstart.steps(tmp_path, has_demo=False)
  prompts = [arg for arg in first.argv if arg.startswith('--prompt=')]
  assert set(prompts) < set(others[-1].argv)
  own = quickstart.steps(tmp_path, has_demo=True, data_dir='/music')
  assert own[0] == first


def test_there_is_a_page_to_open_once_the_demo_has_played(
  tmp_path, commands, has_demo
):
  quickstart.main(['--output', str(tmp_path)])
  pages = [n for n, command in enumerate(commands) if command == ['page']]
  assert pages == ([1] if has_demo else []) + [len(commands) - 1]


def test_a_step_that_has_finished_is_not_run_again(
  tmp_path, commands, has_demo, monkeypatch
):
  monkeypatch.setattr(generate_files, 'would_be_same', lambda *_, **__: True)
  first, second, *others = quickstart.steps(tmp_path, has_demo=has_demo)
  for step in (first, second):
    step.done.parent.mkdir()
    step.done.write_text('{}')
  quickstart.main(['--output', str(tmp_path)])
  assert steps_of(commands) == [list(step.argv[1:]) for step in others]


def test_music_is_made_again_where_it_would_be_another(
  tmp_path, commands, has_demo, monkeypatch, capsys
):
  asked = []

  def would_be_same(path, *, model, **request):
    asked.append((path, model))
    assert request == {
      'prompts': quickstart.PROMPTS,
      'seconds': quickstart.SECONDS,
    }
    return False

  monkeypatch.setattr(generate_files, 'would_be_same', would_be_same)
  steps = quickstart.steps(tmp_path, has_demo=has_demo)
  for step in steps:
    step.done.parent.mkdir(parents=True, exist_ok=True)
    step.done.write_text('{}')
  quickstart.main(['--output', str(tmp_path)])
  music = [step for step in steps if step.argv[0] == 'generate']
  assert steps_of(commands) == [list(step.argv[1:]) for step in music]
  models = [*(['demo'] if has_demo else []), str(tmp_path)]
  assert asked == list(zip([step.done for step in music], models, strict=True))
  # Cut off here, none of them would be taken for what is wanted.
  assert [step for step in steps if not step.done.exists()] == music
  said = 'is of other prompts, weights or sampling'
  assert capsys.readouterr().out.count(said) == len(music)


def test_your_own_folder_takes_the_place_of_the_default_data(tmp_path):
  default = quickstart.steps(tmp_path, has_demo=False)
  yours = quickstart.steps(tmp_path, has_demo=False, data_dir='/music')
  assert "--gin.FOLDER='/music'" in yours[0].argv
  assert [s.argv for s in yours[1:]] == [s.argv for s in default[1:]]


def test_a_step_that_fails_ends_the_quickstart_by_name(
  tmp_path, monkeypatch, has_demo
):
  monkeypatch.setattr(
    quickstart.subprocess,
    'run',
    lambda command, check: subprocess.CompletedProcess(command, returncode=3),
  )
  failed = 'Make music with the demo' if has_demo else 'Render 60 tunes'
  with pytest.raises(OSError, match=f'"{failed}.*code 3'):
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
  folders = ['generated', *(['demo'] if demo.find() else [])]
  waveforms = [w for f in folders for w in (tmp_path / f).glob('*.wav')]
  assert len(waveforms) == len(folders) * len(quickstart.PROMPTS)
  for path in waveforms:
    waveform, rate = soundfile.read(path)
    assert (rate, waveform.size) == (24000, quickstart.SECONDS * 24000)
    assert np.sqrt(np.mean(waveform**2)) > 1e-3  # -60 dB: not silence.
  page = (tmp_path / 'index.html').read_text()
  assert len(re.findall('<audio', page)) >= len(waveforms)
