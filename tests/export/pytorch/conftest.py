# SPDX-License-Identifier: Apache-2.0
"""One tiny MusicLM and its exported folder, for all tests of the modules."""

import pytest
import torch

from musiclm_jax.export.pytorch import MusicLM
from tests.export import whole


@pytest.fixture(scope='session', autouse=True)
def one_thread():
  """Tests run beside each other."""
  torch.set_num_threads(1)


@pytest.fixture(scope='session')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('music_lm')
  whole.publish(directory)
  return directory


@pytest.fixture(scope='session')
def exported_dir(model_dir, tmp_path_factory):
  directory = tmp_path_factory.mktemp('exported') / 'out'
  whole.export(model_dir, directory)
  return directory


@pytest.fixture(scope='session')
def exported(exported_dir):
  return MusicLM.from_pretrained(exported_dir)
