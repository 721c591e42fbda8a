# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from musiclm_jax.cli import assemble, flags
from musiclm_jax.inference import assembly
from musiclm_jax.inference.sampling import Categorical
from tests.inference import toys


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  return toys.publish(tmp_path_factory.mktemp('bundles'))


def argv(folders, output, **changes):
  paths = {
    'codec': folders['codec'],
    'semantic': folders['semantic'],
    'conditioner': folders['mulan'],
    **{f'{name}_stage': path for name, path in folders['stages'].items()},
    'output': output,
  }
  return [f'--{name}={path}' for name, path in (paths | changes).items()]


def test_six_bundles_become_one_model(folders, tmp_path, capsys):
  assemble.main(argv(folders, tmp_path / 'model'))
  fields = json.loads((tmp_path / 'model' / 'music_lm.json').read_text())
  for name in ('codec', 'semantic', 'mulan'):
    path = (tmp_path / 'model' / fields[name]).resolve()
    assert path == folders[name].resolve()
  assert 'musiclm generate --model' in capsys.readouterr().out


def test_flags_become_the_models_own(folders, tmp_path):
  given = ['--guidance=3', '--temperature=1,0.9,0.4', '--top_k=9']
  assemble.main([*argv(folders, tmp_path), *given])
  sampling = assembly.read(tmp_path).sampling
  assert sampling.guidance_scale == 3
  assert sampling.coarse == Categorical(temperature=0.9, top_k=9)


def test_a_stage_in_the_place_of_another_writes_nothing(folders, tmp_path):
  target = tmp_path / 'model'
  with pytest.raises(ValueError, match="'codec' is wanted.*holds a 'stage'"):
    assemble.main(argv(folders, target, codec=folders['stages']['fine']))
  assert not target.exists()


def test_a_bundle_that_is_left_out_is_named():
  with pytest.raises(flags.UsageError, match='--fine_stage'):
    assemble.main(['--codec=a', '--output=b'])
