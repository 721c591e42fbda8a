# SPDX-License-Identifier: Apache-2.0
import ast
import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest
import safetensors.numpy

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import folder
from musiclm_jax.export.pytorch import configuration
from musiclm_jax.stages.spec import StageSpec, Take
from tests.stages import toys

SOURCES = pathlib.Path(folder.__file__).parent / 'pytorch'


def test_what_ends_well_takes_its_place_at_once(tmp_path):
  output = tmp_path / 'out'
  with folder.staged(output) as directory:
    (directory / 'file').write_text('whole')
    assert not output.exists()
  assert (output / 'file').read_text() == 'whole'
  assert list(tmp_path.iterdir()) == [output]


def test_what_fails_leaves_nothing(tmp_path):
  with pytest.raises(ZeroDivisionError), folder.staged(tmp_path / 'out') as new:
    (new / 'file').write_text('half')
    raise ZeroDivisionError
  assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_does_not_block_the_next(tmp_path):
  output = tmp_path / 'out'
  for name in ('half', 'file'):
    # In containers all have the same process number.
    with folder.staged(output) as new:
      (new / name).write_text('')
    if name == 'half':
      output.rename(new)
  assert list(tmp_path.iterdir()) == [output]
  assert [path.name for path in output.iterdir()] == ['file']


def test_what_is_there_is_not_written_over(tmp_path):
  (tmp_path / 'file').write_text('mine')
  with (
    pytest.raises(ValueError, match='is not empty; name a folder'),
    folder.staged(tmp_path),
  ):
    pass
  assert (tmp_path / 'file').read_text() == 'mine'


def test_one_bundle_is_exported_with_the_modules_that_read_it(exported_codec):
  output, sheet = exported_codec
  assert {path.name for path in output.iterdir()} >= {
    'codec',
    'config.json',
    'modeling_musiclm',
    'requirements.txt',
    'PARITY.md',
    'parity.json',
  }
  fields = json.loads((output / 'config.json').read_text())
  assert fields['format_version'] == configuration.FORMAT_VERSION
  assert fields['components']['codec'] == {
    'kind': 'codec',
    'fingerprint': sheet.fingerprints['codec'],
  }
  state = safetensors.numpy.load_file(output / 'codec' / 'model.safetensors')
  assert state['encoder.blocks.1.down.weight_v'].shape == (20, 10, 6)


def test_the_modules_need_torch_and_the_standard_library_alone():
  allowed = sys.stdlib_module_names | {'torch', 'safetensors', 'tokenizers'}
  sources = list(SOURCES.glob('*.py'))
  assert len(sources) > 9
  for path in sources:
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module]
      wrong = [name for name in names if name.split('.')[0] not in allowed]
      assert not wrong, path


def test_a_stage_of_codes_without_repeats_is_refused(tmp_path):
  take = Take(stream=toys.SLOW, distinct_share='1/2')
  spec = StageSpec(name='runs', inputs=(), output=take, window_seconds=2)
  config = dataclasses.replace(toys.config(), spec=spec)
  bundle.publish(
    tmp_path,
    bundle.BundleContents(
      kind='stage',
      config=config,
      weights={'params': {'table': np.zeros(3, np.float32)}},
      stream_out=None,
    ),
  )
  with pytest.raises(ValueError, match="Stage 'runs' of .* without repeats"):
    folder.read(tmp_path)
