# SPDX-License-Identifier: Apache-2.0
"""A copy in fewer bytes fits wherever its original does, and generates."""

import json

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.cli import compress as verb
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import compression, demo
from musiclm_jax.inference.music_lm import MusicLM
from tests.inference import toys

# Those of a packed and of an exported model too.
PLACES = {
  'codec',
  'semantic',
  'mulan',
  'stages/semantic',
  'stages/coarse',
  'stages/fine',
}


@pytest.fixture(scope='module')
def small(model_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('compressed')
  model, output = folder / 'guided', folder / 'model'
  toys.restate(model_dir, model, sampling=toys.GUIDED)
  verb.main([f'--model={model}', f'--output={output}', '--dtype=int8'])
  return output


def test_every_part_is_a_copy_of_its_original(model_dir, small):
  original, copy = assemblies.read(model_dir), assemblies.read(small)
  folders = [
    *((original.tokenizers[n], f) for n, f in copy.tokenizers.items()),
    *((original.stages[n], f) for n, f in copy.stages.items()),
  ]
  places = {after.relative_to(small) for _, after in folders}
  assert {place.as_posix() for place in places} == PLACES
  assert copy.sampling == toys.GUIDED
  for before, after in folders:
    old, new = bundle.load(before), bundle.load(after)
    is_stage = old.kind == 'stage'
    assert new.storage == ('int8' if is_stage else 'float16')
    assert new.derived_from == new.token_space == old.token_space
    assert new.fingerprint != old.fingerprint
    assert (new.config, new.trained_on) == (old.config, old.trained_on)
    found = fingerprints.flatten(new.weights)
    for path, leaf in fingerprints.flatten(old.weights).items():
      assert found[path].dtype == leaf.dtype
      bound = np.abs(leaf).max() / 250 if leaf.size else 0
      np.testing.assert_allclose(found[path], leaf, atol=bound)
    if is_stage:
      sizes = [(f / bundle.WEIGHTS).stat().st_size for f in (before, after)]
      assert sizes[1] < sizes[0]


def test_it_generates_and_an_edited_scale_is_found_out(small, tmp_path):
  made = MusicLM.load(small).generate(['calm'], seconds=1)
  assert made.shape == (1, 60)
  assert np.isfinite(made).all()
  stage = small / 'stages' / 'fine'
  fields = json.loads((stage / 'model.json').read_text())
  assert fields['storage'] == 'int8'
  stored = bundle._read_weights(stage / bundle.WEIGHTS)
  (path,) = [p for p in stored if p.endswith('inputs/table.scale')]
  stored[path] = stored[path] * 2
  copy = tmp_path / 'stage'
  bundle._write(copy, model=fields, weights=stored, gin_config='')
  with pytest.raises(ValueError, match='changed or damaged since'):
    bundle.load(copy)


def test_one_bundle_alone_and_a_folder_that_is_there(
  model_dir, small, tmp_path, capsys
):
  folder = assemblies.read(model_dir).stages['semantic']
  output = tmp_path / 'stage'
  verb.main([f'--model={folder}', f'--output={output}', '--dtype=float16'])
  assert 'float16' in capsys.readouterr().out
  assert bundle.load(output, kind='stage').storage == 'float16'
  with pytest.raises(ValueError, match='is not empty'):
    verb.main([f'--model={folder}', f'--output={output}', '--dtype=int8'])
  assert bundle.load(output).storage == 'float16'


def test_the_word_demo_names_a_folder_here_too(
  model_dir, tmp_path, monkeypatch
):
  folder = assemblies.read(model_dir).stages['fine']
  monkeypatch.setattr(demo, 'resolve', {demo.NAME: folder}.__getitem__)
  (made,) = compression.compress('demo', tmp_path / 'copy', dtype='int8')
  assert (made.name, made.storage) == ('stage', 'int8')
