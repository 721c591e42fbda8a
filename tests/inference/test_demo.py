# SPDX-License-Identifier: Apache-2.0
import pathlib
import shutil

import pytest

from musiclm_jax.cli import generate
from musiclm_jax.export import folder
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import demo
from musiclm_jax.inference.music_lm import MusicLM


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Where the package looks for its data."""
  monkeypatch.setattr(
    demo.importlib.resources, 'files', lambda name: tmp_path / name
  )
  return tmp_path / 'musiclm_jax'


def test_a_folder_is_itself():
  assert demo.resolve('./demo') == pathlib.Path('demo')
  assert demo.resolve(demo.resolve('./demo')) == pathlib.Path('demo')
  assert demo.resolve(pathlib.Path('runs/demo')) == pathlib.Path('runs/demo')


def test_its_absence_is_one_line_that_says_what_to_do(package, tmp_path):
  with pytest.raises(ValueError, match='without a demo model; give') as caught:
    MusicLM.load('demo')
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match='without a demo model'):
    generate.main(['--prompt=calm', f'--output={tmp_path / "out"}'])
  assert not (tmp_path / 'out').exists()


def test_a_model_in_the_package_is_the_demo(package, model_dir, music_lm):
  shutil.copytree(model_dir, package / 'demo')
  assert MusicLM.load('demo').fingerprints == music_lm.fingerprints


def test_a_model_in_a_folder_of_that_name_is_no_demo(
  package, model_dir, music_lm, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assembly = assemblies.read(model_dir)
  model = MusicLM.assemble(
    'demo', **assembly.tokenizers, stages=assembly.stages
  )
  assert model.fingerprints == music_lm.fingerprints
  bundles = folder.read_bundles(demo.resolve('./demo'))
  assert {b.fingerprint for b in bundles.values()} == {
    *music_lm.fingerprints.values()
  }
