# SPDX-License-Identifier: Apache-2.0
"""What a model made once, beside what it makes now."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from musiclm_jax.inference import demo, golden, sampling
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.request import Request
from tests.inference import toys

ROOT = pathlib.Path(__file__).parents[2]

# The demo itself as soon as the package has one.
WHAT_THERE_IS = ['packed here', *([demo.NAME] if demo.find() else [])]


@pytest.fixture(scope='module')
def music_lm(music_lm):
  """The model of all tests, which now wants guidance."""
  return dataclasses.replace(music_lm, sampling=toys.GUIDED)


@pytest.fixture(scope='module')
def made(music_lm):
  return golden.make(music_lm, prompt='calm', seconds='3', seed=5)


def test_the_file_gives_back_what_was_written(made, tmp_path):
  golden.write(tmp_path / golden.FILE, made)
  found = golden.read(tmp_path / golden.FILE)
  assert dataclasses.asdict(found).keys() == dataclasses.asdict(made).keys()
  for field in ('prompt', 'seconds', 'seed', 'platform'):
    assert getattr(found, field) == getattr(made, field)
  for field in ('fingerprints', 'sampling'):
    assert getattr(found, field) == getattr(made, field) != {}
  for field in ('codes', 'rows', 'places', 'logits'):
    wanted = getattr(made, field)
    assert getattr(found, field).keys() == wanted.keys()
    for name, array in wanted.items():
      np.testing.assert_array_equal(getattr(found, field)[name], array)
  assert [path.name for path in tmp_path.iterdir()] == [golden.FILE]


def test_rows_hold_the_piece_and_logits_stand_before_its_codes(music_lm, made):
  for name in golden.STAGES:
    layout = getattr(music_lm.cascade, name).config.layout
    codes = layout.unpack(made.rows[name])
    stream = made.codes['semantic' if name == 'semantic' else 'acoustic']
    take = layout.output.take
    there = min(codes.shape[1], stream.shape[1])
    np.testing.assert_array_equal(
      codes[:, :there], stream[:, :there, take.first : take.stop]
    )
    num_places = min(16, there * take.count)
    assert made.logits[name].shape == (num_places, take.stream.codebook_size)
    # Places without a code would compare the logits of padding.
    assert made.places[name].max() < there * take.count
    # Taken from the sequence that was drawn, they make its codes likely.
    assert len(np.unique(made.logits[name].round(5), axis=0)) > 8


def test_a_model_is_what_it_was(music_lm, made):
  assert 'codes equal' in golden.require_same(music_lm, made)


def test_the_piece_is_sampled_as_the_model_states(music_lm, made):
  stated = Request(prompts=['calm'], seconds=3, seed=5, sampling=toys.GUIDED)
  music = music_lm.compose(stated)
  np.testing.assert_array_equal(made.codes['acoustic'], music.acoustic)


def changed(made, field, name, value):
  return dataclasses.replace(
    made, **{field: {**getattr(made, field), name: value}}
  )


def test_whatever_differs_is_named(music_lm, made):
  logits = made.logits['coarse'].copy()
  logits[3, 2] += 2e-3
  with pytest.raises(ValueError, match="of stage 'coarse' differ by 0.002"):
    golden.require_same(music_lm, changed(made, 'logits', 'coarse', logits))
  codes = made.codes['acoustic'].copy()
  codes[0, 7, 1] += 1
  with pytest.raises(ValueError, match='acoustic codes differ from frame 7 on'):
    golden.require_same(music_lm, changed(made, 'codes', 'acoustic', codes))
  with pytest.raises(ValueError, match='make the file anew'):
    golden.require_same(music_lm, changed(made, 'fingerprints', 'codec', 'ab'))


def test_sampling_that_the_model_no_longer_states_is_named(music_lm, made):
  colder = sampling.Categorical(temperature=0.9, top_k=5)
  stated = dataclasses.replace(toys.GUIDED, coarse=colder)
  other = dataclasses.replace(music_lm, sampling=stated)
  with pytest.raises(ValueError, match="'top_k': 7.* states .*'top_k': 5"):
    golden.require_same(other, made)


def test_a_likeliest_code_that_led_by_more_is_the_same(music_lm, made):
  logits = made.logits['fine'].copy()
  best = logits[0].argmax()
  logits[0, best] -= 1e3
  with pytest.raises(ValueError, match="1 likeliest codes of stage 'fine'"):
    golden.require_same(music_lm, changed(made, 'logits', 'fine', logits))


def test_codes_are_those_of_the_platform_that_made_them(music_lm, made):
  codes = made.codes['semantic'] + 1
  other = changed(made, 'codes', 'semantic', codes)
  other = dataclasses.replace(other, platform='gpu, a card, jax 9')
  said = golden.require_same(music_lm, other)
  assert 'codes not compared, since they are those of gpu, a card' in said
  assert jax.default_backend() in golden.this_platform()


def test_a_platform_is_also_its_cores_devices_and_flags(monkeypatch):
  monkeypatch.delenv('LIBTPU_INIT_ARGS', raising=False)
  monkeypatch.setenv('XLA_FLAGS', '--xla_b=1 --xla_dump_to=/home/me')
  cores, here = len(os.sched_getaffinity(0)), golden.this_platform()
  assert f'{cores} cores as 8 devices, jax ' in here
  assert '/home/me' not in here
  monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=/home/me --xla_b=1')
  assert golden.this_platform() == here
  monkeypatch.setenv('XLA_FLAGS', '--xla_b=2 --xla_dump_to=/home/me')
  assert golden.this_platform() != here
  monkeypatch.delenv('XLA_FLAGS')
  assert 'flags' not in golden.this_platform()
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(cores + 1))
  assert f'{cores + 1} cores as' in golden.this_platform()


def test_what_is_packed_is_what_it_was(packed):
  found = golden.read(packed / golden.FILE)
  model = MusicLM.load(packed, dtype='float32')
  assert model.sampling == toys.GUIDED
  assert 'codes equal' in golden.require_same(model, found)


def plainly(*arguments):
  """Python's stdout, where devices are the machine's, as a user has them."""
  changed = ('XLA_FLAGS', 'NPROC')
  env = {k: v for k, v in os.environ.items() if k not in changed}
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=env,
    check=True,
    capture_output=True,
    text=True,
  )
  return done.stdout


_COMPARE = """
import pathlib
import sys
from musiclm_jax.inference import golden
from musiclm_jax.inference.music_lm import MusicLM

folder = pathlib.Path(sys.argv[1])
found = golden.read(folder / golden.FILE)
print(golden.require_same(MusicLM.load(folder, dtype='float32'), found))
print(golden.this_platform())
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', WHAT_THERE_IS)
def test_a_folder_is_what_it_was_when_it_was_packed(name, model_dir, tmp_path):
  if name == 'packed here':
    folder = tmp_path / 'packed'
    to = f'--output={folder}'
    plainly('-m', 'musiclm_jax.cli.pack', f'--model={model_dir}', to)
  else:
    folder = demo.find()
  said, here = plainly('-c', _COMPARE, str(folder)).splitlines()
  made = golden.read(folder / golden.FILE).platform
  # Nowhere else can the codes be asked for.
  assert ('codes equal' in said) == (made == here)
  assert made == here or name == demo.NAME
