# SPDX-License-Identifier: Apache-2.0
import pathlib
import shutil
import subprocess
import sys

import pytest

from musiclm_jax.cli import generate
from musiclm_jax.export import folder
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import demo, golden
from musiclm_jax.inference.music_lm import MusicLM

ROOT = pathlib.Path(__file__).parents[2]
MOST_BYTES = 25_000_000  # What a user downloads with the package.


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
  bundles = folder.read(demo.resolve('./demo')).bundles
  assert {b.fingerprint for b in bundles.values()} == {
    *music_lm.fingerprints.values()
  }


# The demo itself as soon as the package has one.
@pytest.mark.parametrize('there', [False, *([True] if demo.find() else [])])
def test_it_is_small_and_says_what_it_is(there, packed, request):
  if not there:
    shutil.copytree(packed, request.getfixturevalue('package') / demo.NAME)
  directory = demo.find()
  files = [path for path in directory.rglob('*') if path.is_file()]
  assert sum(path.stat().st_size for path in files) <= MOST_BYTES
  made = golden.read(directory / golden.FILE)
  assert made.fingerprints == assemblies.read(demo.NAME).fingerprints()
  card = demo.card()
  for heading in ('What it is', 'Licence', 'Training', 'Use and limits'):
    assert card[heading] and 'ot stated' not in card[heading], heading
  # The tiny one has no corpus, and the card has to ask for it.
  assert card['Data'].startswith('Not stated') != there
  for fingerprint in made.fingerprints.values():
    assert fingerprint[:12] in card['What it is']


def test_all_of_it_is_committed_and_in_the_wheel(packed, tmp_path):
  source = tmp_path / 'source'
  shutil.copytree(packed, source / 'musiclm_jax' / demo.NAME)
  (source / 'musiclm_jax' / '__init__.py').touch()
  for name in ('gin', 'data'):
    (source / name).mkdir()
  for name in ('setup.py', 'README.md', '.gitignore'):
    shutil.copy(ROOT / name, source)

  def run(*command):
    return subprocess.run(
      command, cwd=source, check=True, capture_output=True, text=True
    ).stdout

  run('git', 'init', '--quiet')
  added = run('git', '-c', 'core.excludesFile=', 'add', '--dry-run', '.')
  run(sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib=built')
  wanted = {p.relative_to(packed) for p in packed.rglob('*') if p.is_file()}
  assert len(wanted) > 6 * 2
  for path in wanted:
    assert f"'musiclm_jax/demo/{path.as_posix()}'" in added
  built = source / 'built' / 'musiclm_jax' / demo.NAME
  assert {
    p.relative_to(built) for p in built.rglob('*') if p.is_file()
  } == wanted
