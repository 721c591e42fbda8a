# SPDX-License-Identifier: Apache-2.0
"""A tiny codec and a tiny tokenizer, exported once for all tests."""

import pytest

from musiclm_jax.export import clips, exporting
from tests.export import toys


@pytest.fixture(scope='session')
def codec_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('codec')
  toys.publish_codec(directory)
  return directory


@pytest.fixture(scope='session')
def semantic_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('semantic')
  toys.publish_semantic(directory)
  return directory


@pytest.fixture(scope='session')
def exported_codec(codec_dir, tmp_path_factory):
  """The folder and its sheet."""
  output = tmp_path_factory.mktemp('exported') / 'codec'
  return output, exporting.export(codec_dir, output, clips=clips.synthetic())


@pytest.fixture(scope='session')
def exported_semantic(semantic_dir, tmp_path_factory):
  """The folder and its sheet."""
  output = tmp_path_factory.mktemp('exported') / 'semantic'
  return output, exporting.export(semantic_dir, output, clips=clips.synthetic())
