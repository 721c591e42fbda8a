# SPDX-License-Identifier: Apache-2.0
"""A model without a condition: out of nothing, and on from a beginning."""

import dataclasses
import json

import numpy as np
import pytest

from musiclm_jax.cli import generate
from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.request import Request
from tests.inference import toys


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('audiolm')
  toys.publish_audiolm(directory)
  return directory


@pytest.fixture(scope='module')
def audiolm(model_dir):
  return MusicLM.load(model_dir)


@pytest.fixture(scope='module')
def music(audiolm):
  return audiolm.compose(Request(seconds=3, seed=5, num_samples=2))


def test_it_has_five_bundles(audiolm):
  assert audiolm.conditioner is None
  assert set(audiolm.fingerprints) == {
    'codec',
    'semantic',
    *(f'stages/{name}' for name in assembly.STAGES),
  }


def test_music_comes_out_of_nothing_and_differs_by_seed_alone(audiolm, music):
  assert music.prompts == ('unprompted', 'unprompted')
  assert music.waveform.shape == (2, 3 * toys.RATE_HZ)
  assert (music.acoustic[0] != music.acoustic[1]).any()
  alone = audiolm.compose(Request(seconds=3, seed=6))
  np.testing.assert_array_equal(alone.acoustic[0], music.acoustic[1])


def test_a_continuation_begins_with_the_codes_of_what_it_continues(audiolm):
  begun = np.random.default_rng(7).uniform(-0.9, 0.9, 60).astype(np.float32)
  went_on = audiolm.compose(
    Request(seconds=3, continue_from=begun, sample_rate_hz=toys.RATE_HZ)
  )
  codes = audiolm.codec.encode(begun[None], sample_rate_hz=toys.RATE_HZ)
  np.testing.assert_array_equal(went_on.acoustic[:, :10], codes[:, :10])
  assert went_on.prompts == ('continuation',)


@pytest.mark.parametrize(
  'fields, match',
  [
    ({'prompts': 'calm'}, 'takes no prompt'),
    (
      {'prompt_audio': np.ones(60, np.float32), 'sample_rate_hz': 60},
      'takes no prompt',
    ),
    ({'guidance': 3.0}, 'the model has none'),
  ],
)
def test_what_wants_a_condition_is_an_error(audiolm, fields, match):
  with pytest.raises(ValueError, match=match):
    audiolm.generate(**fields)


def test_it_cannot_judge_its_music(audiolm, music):
  with pytest.raises(ValueError, match='cannot judge'):
    audiolm.similarity(music)


def test_the_verb_wants_no_prompt_and_ranks_nothing(model_dir, tmp_path):
  generate.main(
    [f'--model={model_dir}', f'--output={tmp_path}', '--seconds=1', '--seed=3']
  )
  (piece,) = json.loads((tmp_path / 'generate.json').read_text())['pieces']
  assert (tmp_path / piece['file']).exists()
  assert (piece['rank'], piece['similarity']) == (1, None)


def test_it_cannot_want_guidance_of_its_own(model_dir, tmp_path):
  with pytest.raises(ValueError, match='without a conditioner has none'):
    toys.restate(model_dir, tmp_path / 'model', sampling=toys.GUIDED)
  assert not (tmp_path / 'model').exists()
  cooler = dataclasses.replace(toys.GUIDED, guidance_scale=None)
  toys.restate(model_dir, tmp_path / 'model', sampling=cooler)
  assert assembly.read(tmp_path / 'model').sampling == cooler


def test_stages_that_want_a_condition_are_refused(tmp_path):
  folders = toys.publish(tmp_path)
  del folders['mulan']
  with pytest.raises(ValueError, match="reads codes of 'mulan'"):
    assembly.write(tmp_path / 'model', **folders)
