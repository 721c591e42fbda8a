# SPDX-License-Identifier: Apache-2.0
"""A run goes on with the codes it was begun on, or stops with both names."""

import types

import pytest

from musiclm_jax.training import origin


def on(**fingerprints):
  return types.SimpleNamespace(
    objective=types.SimpleNamespace(trained_on=fingerprints)
  )


def test_what_reads_codes_says_whose():
  assert origin.of(on(acoustic='a')) == {'acoustic': 'a'}
  assert origin.of(types.SimpleNamespace(objective=object())) == {}
  assert origin.of(object()) == {}  # Of the adversarial kind, say.


def test_a_run_is_held_to_the_codes_it_was_begun_on(tmp_path):
  first = {'acoustic': 'a', 'mulan': 'm'}
  origin.require_same(tmp_path / 'run', first, resumes=False)
  origin.require_same(tmp_path / 'run', first, resumes=True)
  with pytest.raises(
    ValueError, match='acoustic codes of a, not of b.*another folder'
  ):
    origin.require_same(
      tmp_path / 'run', first | {'acoustic': 'b'}, resumes=True
    )
  with pytest.raises(ValueError, match='mulan codes of m, not of None'):
    origin.require_same(tmp_path / 'run', {'acoustic': 'a'}, resumes=True)


def test_a_run_that_saved_nothing_may_begin_anew_on_others(tmp_path):
  origin.require_same(tmp_path, {'acoustic': 'a'}, resumes=False)
  origin.require_same(tmp_path, {'acoustic': 'b'}, resumes=False)
  origin.require_same(tmp_path, {'acoustic': 'b'}, resumes=True)


def test_a_model_of_audio_leaves_no_file(tmp_path):
  origin.require_same(tmp_path, {}, resumes=False)
  assert not list(tmp_path.iterdir())


def test_a_warm_start_is_of_the_same_codes_where_it_knows_them(tmp_path):
  common = {'acoustic': 'a', 'semantic': 's'}
  origin.require_same_of_bundle(
    tmp_path, bundle=common, trained_on={'acoustic': 'a', 'mulan': 'm'}
  )
  with pytest.raises(ValueError, match='bundle in .* acoustic codes of a, not'):
    origin.require_same_of_bundle(
      tmp_path, bundle=common, trained_on={'acoustic': 'b'}
    )
