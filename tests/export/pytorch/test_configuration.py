# SPDX-License-Identifier: Apache-2.0
import fractions
import json

import pytest

from musiclm_jax.export.pytorch import configuration


def write(directory, **changes):
  fields = {
    'format_version': configuration.FORMAT_VERSION,
    'kind': 'codec',
    'config': {
      '$class': 'musiclm_jax.codec:Config',
      'strides': [2, 3],
      'rate': {'$fraction': '5/3'},
      'padding': {'$enum': 'module:Padding', 'name': 'SAME'},
      'type': {'$dtype': 'float32'},
      'inner': {'$class': 'module:Inner', 'size': None},
    },
  }
  text = json.dumps(fields | changes)
  (directory / 'config.json').write_text(text)


def test_fields_are_attributes(tmp_path):
  write(tmp_path)
  config = configuration.read_config(tmp_path, kind='codec').config
  assert config.strides == [2, 3]
  assert config.rate == fractions.Fraction(5, 3)
  assert (config.padding, config.type) == ('SAME', 'float32')
  assert config.inner.size is None


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda path: path.unlink(), 'holds no config.json; give the folder'),
    (lambda path: path.write_text('{'), 'is not JSON'),
    (
      lambda path: write(path.parent, format_version=7),
      'has format version 7; these modules read 1',
    ),
    (lambda path: path.write_text('[]'), 'has format version None'),
    (
      lambda path: write(path.parent, kind='stage'),
      "of kind 'codec' is wanted, but .* holds a 'stage'",
    ),
  ],
)
def test_a_folder_that_cannot_be_read_is_named_in_one_line(
  tmp_path, change, message
):
  write(tmp_path)
  change(tmp_path / 'config.json')
  with pytest.raises(ValueError, match=message) as raised:
    configuration.read_config(tmp_path, kind='codec')
  assert '\n' not in str(raised.value)
