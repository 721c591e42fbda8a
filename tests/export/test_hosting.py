# SPDX-License-Identifier: Apache-2.0
"""A folder that is complete, used by hosts that lack our package."""

import ast
import json
import subprocess
import sys

import pytest
import torch

from musiclm_jax.export import folder, hosting
from musiclm_jax.export.pytorch import MusicLM
from tests.export import whole


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  directory = tmp_path_factory.mktemp('hosting')
  whole.publish(directory / 'model')
  with folder.staged(directory / 'exported') as staging:
    folder.write(staging, folder.read(directory / 'model'))
    hosting.write(staging, card='---\nlicense: unknown\n---\n')
  return directory / 'exported'


def test_only_what_takes_prompts_is_served():
  stages = [f'stages/{name}' for name in ('semantic', 'coarse', 'fine')]
  whole_model = ['codec', 'semantic', 'mulan', *stages]
  assert hosting.is_served(whole_model)
  assert not hosting.is_served(['codec', 'semantic', *stages])
  assert not hosting.is_served(['mulan'])


def third_party(paths):
  """Distributions that files import anywhere, named as their modules are."""
  known = {*sys.stdlib_module_names, 'modeling_musiclm', 'serving'}
  found = set()
  for node in (
    n for path in paths for n in ast.walk(ast.parse(path.read_text()))
  ):
    if isinstance(node, ast.Import):
      found |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      found.add(node.module.split('.')[0])
  return found - known


def test_whatever_a_folder_imports_is_required_beside_it(tmp_path):
  (tmp_path / folder.CONFIG).write_text('{}')
  folder.write_package(tmp_path, kinds={'codec', 'conditioner', 'stage'})
  hosting.write(tmp_path, card='')
  for pattern, name in (
    ('modeling_musiclm/*.py', 'requirements.txt'),
    ('serv*/*.py', 'requirements-serve.txt'),
    ('modeling_musiclm_hf.py', 'requirements-transformers.txt'),
  ):
    imported = third_party(tmp_path.glob(pattern))
    assert 'torch' in imported
    assert imported <= set((tmp_path / name).read_text().split())


def test_a_codec_alone_needs_no_tokenizers(tmp_path):
  folder.write_package(tmp_path, kinds={'codec'})
  required = (tmp_path / folder.REQUIREMENTS).read_text().split()
  assert required == ['torch', 'safetensors']


REFUSE = """
import sys

class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in ('jax', 'flax', 'musiclm_jax'):
      raise ImportError(f'{name} is refused here')

sys.meta_path.insert(0, Refuse())
"""


def host(code, *arguments, cwd):
  done = subprocess.run(
    [sys.executable, '-c', REFUSE + code, *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
    cwd=cwd,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


AUTO_MODEL = """
import torch, transformers
model = transformers.AutoModel.from_pretrained(
  sys.argv[1], trust_remote_code=True
)
made = model.generate(['a low and dark tone'], seconds=1, seed=5)
assert made.shape[1] == model.sample_rate_hz
assert model.config.model_type == 'musiclm'
torch.save(made, sys.argv[2])
"""


@pytest.mark.slow
def test_transformers_find_the_model_from_any_folder(exported, tmp_path):
  host(AUTO_MODEL, exported, tmp_path / 'made.pt', cwd=tmp_path)
  wanted = MusicLM.from_pretrained(exported).generate(
    ['a low and dark tone'], seconds=1, seed=5
  )
  torch.testing.assert_close(
    torch.load(tmp_path / 'made.pt'), wanted, rtol=0, atol=1e-5
  )


SERVER = """
import pathlib
sys.path.insert(0, '.')
import uvicorn
from fastapi import testclient

def answer(app, **options):
  with testclient.TestClient(app) as client:
    body = {'prompt': 'a low and dark tone', 'seconds': 0.5, 'seed': 5}
    made = client.post('/generate', json=body)
    assert made.status_code == 200, made.text
    pathlib.Path(sys.argv[1]).write_bytes(made.content)

uvicorn.run = answer
from serving.main import main
main(['--tile', '2', '--max_samples', '2', '--dtype', sys.argv[2]])
"""


def served(exported, tmp_path, *, dtype):
  """What a server in its own process makes: samples of a WAV."""
  host(SERVER, tmp_path / 'made.wav', dtype, cwd=exported)
  content = (tmp_path / 'made.wav').read_bytes()
  return torch.frombuffer(bytearray(content[44:]), dtype=torch.int16) / 32767


@pytest.mark.slow
def test_the_server_of_the_folder_runs_its_model(exported, tmp_path):
  made = served(exported, tmp_path, dtype='float32')
  wanted = MusicLM.from_pretrained(exported).generate(
    ['a low and dark tone'], seconds=0.5, seed=5
  )
  torch.testing.assert_close(made, wanted[0].clamp(-1, 1), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_it_serves_in_half_precision(exported, tmp_path, dtype):
  made = served(exported, tmp_path, dtype=dtype)
  # Whatever is not finite is an error, which `answer` would have met.
  assert len(made) == 0.5 * 60 and made.std() > 0


@pytest.mark.slow
def test_the_config_is_that_of_both_readers(exported):
  config = json.loads((exported / 'config.json').read_text())
  assert config['kind'] == 'music_lm' and 'stages/fine' in config['components']
  for reference in config['auto_map'].values():
    module, name = reference.split('.')
    assert f'class {name}(' in (exported / f'{module}.py').read_text()
  required = (exported / 'requirements-serve.txt').read_text().split()
  assert {'torch', 'safetensors', 'fastapi', 'uvicorn'} <= set(required)
