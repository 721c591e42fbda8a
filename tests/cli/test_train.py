# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from musiclm_jax.cli import train

ROOT = pathlib.Path(__file__).parents[2]

TOY = pathlib.Path(__file__).parent / 'toy.gin'


@pytest.fixture
def musiclm_train(tmp_path):
  """`musiclm train` on the toy, in a process of its own."""

  def run(*argv, **environment):
    return subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.cli.train', f'--gin_file={TOY}']
      + ["--gin.MODEL_DIR='run'", *argv],
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def figures(tmp_path: pathlib.Path) -> list[dict]:
  text = (tmp_path / 'run' / 'metrics' / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_a_run_trains_says_so_and_goes_on_where_it_ended(
  musiclm_train, tmp_path
):
  steps = ['--gin.LOG_EVERY_STEPS=3', '--gin.EVALUATE_EVERY_STEPS=3']
  done = musiclm_train('--gin.NUM_STEPS=6', *steps)
  assert done.returncode == 0, done.stderr
  assert 'step 6/6' in done.stderr
  assert done.stderr.count("There is no MFU: the peak rate of 'cpu'") == 1
  done = musiclm_train('--gin.NUM_STEPS=9', *steps)
  assert done.returncode == 0, done.stderr
  assert 'Restored step 6' in done.stderr
  # What other libraries say is for the most part noise.
  assert 'orbax' not in done.stderr.lower()
  errors = [
    f['evaluate/toy/error']
    for f in figures(tmp_path)
    if 'evaluate/toy/error' in f
  ]
  assert len(errors) == 3
  assert errors[0] > errors[1] > errors[2]


def test_a_mistake_is_one_line_and_no_traceback(musiclm_train):
  done = musiclm_train('--gin.NUM_STEP=6')
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('musiclm train: ')


def test_a_mesh_that_does_not_fit_is_one_line(musiclm_train):
  done = musiclm_train('--gin.NUM_STEPS=6', '--gin.Partitioner.fsdp=7919')
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1
  assert '7919 devices' in done.stderr


def test_compiled_programs_are_kept_where_jax_is_told_or_at_home(monkeypatch):
  where = 'jax_compilation_cache_dir'
  from_seconds = 'jax_persistent_cache_min_compile_time_secs'
  before = {name: jax.config.values[name] for name in (where, from_seconds)}
  monkeypatch.setenv('HOME', '/home/someone')
  try:
    jax.config.update(where, '/elsewhere')
    train.keep_compiled_programs()
    assert jax.config.values[where] == '/elsewhere'
    assert jax.config.values[from_seconds] == before[from_seconds]
    jax.config.update(where, None)
    train.keep_compiled_programs()
    kept = jax.config.values[where]
    assert kept == '/home/someone/.cache/musiclm_jax/xla'
    assert jax.config.values[from_seconds] < 1  # JAX's own.
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
