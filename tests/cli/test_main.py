# SPDX-License-Identifier: Apache-2.0
import errno
import os
import pathlib
import subprocess
import sys
import threading

import jax
import pytest

from musiclm_jax.cli import flags, main

ROOT = pathlib.Path(__file__).parents[2]


def run(*argv: str) -> subprocess.CompletedProcess:
  code = 'from musiclm_jax.cli import main; main.main()'
  return subprocess.run(
    [sys.executable, '-c', code, *argv],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.fixture
def verb(monkeypatch):
  """Makes `musiclm probe` do what a test says."""

  def install(body):
    class Module:
      main = staticmethod(body)

    # What a run leaves behind in its process, this one must not keep.
    monkeypatch.setattr(main, 'log_to_stderr', lambda: None)
    monkeypatch.setattr(threading, 'excepthook', threading.excepthook)
    monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)
    monkeypatch.setattr(main, 'verbs', lambda: {'probe': 'A probe.'})
    monkeypatch.setitem(sys.modules, 'musiclm_jax.cli.probe', Module)

  return install


def ends(argv=()) -> int:
  with pytest.raises(SystemExit) as ended:
    main.run('probe', argv)
  return ended.value.code


def test_the_verbs_are_the_files_that_define_main():
  found = main.verbs()
  assert 'train' in found
  assert not {'main', 'setup', 'flags', 'gin_errors', '__init__'} & set(found)
  assert all(found.values()), 'A verb opens with a line that says what it does.'


def test_help_names_every_verb_without_importing_any():
  done = run('--help')
  assert done.returncode == 0
  for verb, about in main.verbs().items():
    assert f'{verb} ' in done.stdout and about in done.stdout


def test_no_verb_prints_the_verbs_and_fails():
  done = run()
  assert done.returncode == 2
  assert 'train' in done.stdout


def test_an_unknown_verb_is_one_line_with_the_nearest():
  done = run('trian', '--x')
  assert done.returncode == 2
  assert done.stderr == ("musiclm trian: no such verb; did you mean 'train'?\n")


def test_every_verb_has_help():
  for verb in main.verbs():
    done = run(verb, '--help')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'usage: musiclm {verb}')


def test_what_must_answer_at_once_knows_its_flags_without_jax():
  code = (
    'import sys; from musiclm_jax.cli import generate, quickstart;'
    ' print({"jax", "numpy"} & set(sys.modules))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.stdout.strip() == 'set()', done.stderr


@pytest.mark.parametrize(
  ('error', 'code', 'line'),
  [
    (flags.UsageError('no such thing.'), 2, 'no such thing.'),
    (ValueError('wanted 3,\n  got 4.'), 1, 'wanted 3, got 4.'),
    (
      ValueError("bad.\n  In call to configurable 'train' (<function>)"),
      1,
      'bad.',
    ),
    (
      FileNotFoundError(errno.ENOENT, 'No such file or directory', 'in.wav'),
      1,
      "No such file or directory: 'in.wav'",
    ),
    (
      OSError(errno.ENOSPC, 'No space left on device'),
      1,
      'No space left on device; free some, and give the same command again.',
    ),
    (MemoryError(), 1, 'MemoryError'),
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory.'),
      1,
      'RESOURCE_EXHAUSTED: Out of memory.',
    ),
    (ValueError('long ' * 1000), 1, 'long ' * 120 + '…'),
  ],
)
def test_an_expected_error_is_one_line(verb, capfd, error, code, line):
  def body(argv):
    raise error

  verb(body)
  assert ends() == code
  err = capfd.readouterr().err
  # The probe lies outside of the package, as the inside of a library does.
  assert err == f'musiclm probe: {line} (--traceback shows where)\n'


def test_a_defect_of_ours_keeps_its_traceback(verb, capfd):
  def body(argv):
    raise KeyError('loss')

  verb(body)
  assert ends() == 1
  err = capfd.readouterr().err
  assert 'Traceback' in err and "KeyError: 'loss'" in err
  assert "musiclm probe: a defect of ours: 'loss'" in err


FAILS_ALL_OVER = """
import asyncio, atexit, sys, threading, types
from musiclm_jax.cli import main

def fail(*_):
  raise OSError('on its own')

async def task():
  asyncio.create_task(asyncio.to_thread(fail))
  await asyncio.sleep(0.1)

def probe(argv):
  atexit.register(fail)
  asyncio.run(task())
  thread = threading.Thread(target=fail, name='writer')
  thread.start()
  thread.join()
  raise ValueError('out of luck.')

sys.modules['musiclm_jax.cli.probe'] = types.SimpleNamespace(main=probe)
main.verbs = lambda: {'probe': ''}
main.run('probe')
"""


def test_what_fails_in_threads_tasks_and_at_exit_shows_no_traceback():
  done = subprocess.run(
    [sys.executable, '-c', FAILS_ALL_OVER],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert [line.split(' (')[0] for line in done.stderr.splitlines()] == [
    'writer: on its own',
    'musiclm probe: out of luck.',
  ]


def test_an_interrupt_is_one_line(verb, capfd):
  def body(argv):
    raise KeyboardInterrupt

  verb(body)
  assert ends() == 130
  assert capfd.readouterr().err == 'musiclm probe: interrupted.\n'


@pytest.mark.parametrize('by', ['flag', 'environment'])
def test_the_traceback_can_be_seen(verb, capfd, monkeypatch, by):
  seen = []

  def body(argv):
    seen.extend(argv)
    raise ValueError('wrong.')

  verb(body)
  if by == 'environment':
    monkeypatch.setenv('MUSICLM_TRACEBACK', '1')
  assert ends(['a', '--traceback'] if by == 'flag' else ['a']) == 1
  assert seen == ['a']
  err = capfd.readouterr().err
  assert 'Traceback' in err and 'in body' in err


def test_a_verb_that_returns_exits_with_zero(verb):
  verb(lambda argv: None)
  assert ends() == 0


def test_a_missing_package_names_the_extra_that_brings_it(verb, monkeypatch):
  monkeypatch.setattr(
    main.importlib.metadata,
    'requires',
    lambda name: ['jax', 'music21; extra == "tunes"', 'seqio; extra == "data"'],
  )
  error = ModuleNotFoundError("No module named 'seqio'", name='seqio')
  assert main.describe(error) == (
    "needs the package 'seqio': pip install 'musiclm_jax[data]'"
  )

  monkeypatch.setattr(
    main.importlib.metadata,
    'requires',
    lambda name: ['onnxruntime; extra == "eval"', 'onnx>=1; extra == "onnx"'],
  )
  error = ModuleNotFoundError("No module named 'onnx'", name='onnx')
  assert main.describe(error).endswith("'musiclm_jax[onnx]'")

  def requires(name):
    raise main.importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(main.importlib.metadata, 'requires', requires)
  error = ModuleNotFoundError("No module named 'xyz'", name='xyz.a')
  assert main.describe(error) == (
    "needs the package 'xyz.a', which is not installed."
  )


PRINTS_MUCH = """
import sys, types
from musiclm_jax.cli import main
sys.modules['musiclm_jax.cli.probe'] = probe = types.ModuleType('probe')
probe.main = lambda argv: print('x' * 2**20)
main.verbs = lambda: {'probe': ''}
main.run('probe', [])
"""


def test_a_reader_that_has_gone_is_no_error():
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, '-c', PRINTS_MUCH],
    cwd=ROOT,
    stdout=writer,
    stderr=subprocess.PIPE,
    check=False,
  )
  os.close(writer)
  assert done.returncode == 1
  assert done.stderr == b''
