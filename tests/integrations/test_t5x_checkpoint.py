# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle as bundles
from musiclm_jax.checkpoints import config_json
from musiclm_jax.integrations import t5x_checkpoint
from tests.integrations import toys
from tests.stages import toys as stage_toys


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return toys.write_run(tmp_path_factory.mktemp('t5x') / 'run')


def logits(config, params):
  tokens = toys.rows(5)[batches.TOKENS]
  return stage_toys.forward(config, params, tokens)


def test_the_last_checkpoint_is_a_bundle_of_the_same_logits(run, tmp_path):
  bundles.publish(tmp_path, t5x_checkpoint.read(run))
  loaded = bundles.load(tmp_path, kind='stage')
  assert loaded.config == toys.OBJECTIVE.model.to_decode()
  found = logits(loaded.config, loaded.weights['params'])
  wanted = logits(toys.OBJECTIVE.model, toys.PARAMS)
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  assert np.ptp(wanted) > 1


def test_an_earlier_step_can_be_asked_for(run):
  last, first = (t5x_checkpoint.read(run, step=step) for step in (None, 3))
  for leaf, doubled in zip(
    *(jax.tree.leaves(contents.weights) for contents in (last, first))
  ):
    np.testing.assert_array_equal(2 * np.asarray(leaf), doubled)


def test_what_is_not_there_is_named(run, tmp_path):
  with pytest.raises(ValueError, match=r'steps \[3, 11\], not that of step 5'):
    t5x_checkpoint.read(run, step=5)
  with pytest.raises(ValueError, match='has no stage_objective.json'):
    t5x_checkpoint.read(tmp_path)
  t5x_checkpoint.write_objective(tmp_path, toys.OBJECTIVE)
  with pytest.raises(ValueError, match=r'steps \[\], none; train longer'):
    t5x_checkpoint.read(tmp_path)


def test_parameters_of_another_model_are_refused(run, tmp_path):
  for path in run.iterdir():
    (tmp_path / path.name).symlink_to(path)
  (tmp_path / t5x_checkpoint.OBJECTIVE_JSON).unlink()
  other = dataclasses.replace(
    toys.OBJECTIVE, model=stage_toys.config(scan_layers=True, mlp_dim=17)
  )
  t5x_checkpoint.write_objective(tmp_path, other)
  with pytest.raises(
    ValueError, match=r'feedforward.* is .*17.*13.* of one run'
  ):
    t5x_checkpoint.read(tmp_path)


def test_the_objective_comes_back_whole_from_a_bucket_too(run, buckets):
  t5x_checkpoint.write_objective('gs://b/run', toys.OBJECTIVE)
  for folder in (run, buckets / 'b' / 'run'):
    fields = json.loads((folder / t5x_checkpoint.OBJECTIVE_JSON).read_text())
    assert config_json.from_json(fields) == toys.OBJECTIVE


def test_what_tables_began_as_is_not_kept(tmp_path):
  books = {'slow': np.ones((1, 7, 3), np.float32)}
  begun = dataclasses.replace(toys.OBJECTIVE, codebooks=books)
  t5x_checkpoint.write_objective(tmp_path, begun)
  fields = json.loads((tmp_path / t5x_checkpoint.OBJECTIVE_JSON).read_text())
  assert config_json.from_json(fields) == toys.OBJECTIVE


def test_an_objective_that_cannot_be_written_whole_leaves_the_old(
  run, tmp_path, monkeypatch
):
  old = tmp_path / t5x_checkpoint.OBJECTIVE_JSON
  old.write_text('old')

  def torn(self, text, **_):
    with self.open('w') as file:
      file.write(text[:7])
    raise OSError('The disk is full.')

  monkeypatch.setattr(pathlib.Path, 'write_text', torn)
  with pytest.raises(OSError, match='disk is full'):
    t5x_checkpoint.write_objective(tmp_path, toys.OBJECTIVE)
  assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [
    (old.name, 'old')
  ]
