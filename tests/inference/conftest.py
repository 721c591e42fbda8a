# SPDX-License-Identifier: Apache-2.0
"""One tiny MusicLM for all tests of inference, compiled once."""

import pytest

from musiclm_jax.export import packing
from musiclm_jax.inference.music_lm import MusicLM
from tests.inference import toys


@pytest.fixture(scope='session')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('music_lm')
  toys.publish(directory)
  return directory


@pytest.fixture(scope='session')
def packed(model_dir, tmp_path_factory):
  """The folder that is handed on, of a model that wants guidance."""
  model = tmp_path_factory.mktemp('guided')
  toys.restate(model_dir, model, sampling=toys.GUIDED)
  folder = tmp_path_factory.mktemp('packed') / 'demo'
  told = {'license': 'cc0-1.0', 'training': '7 minutes on two cores.'}
  packing.pack(model, folder, max_bytes=10**6, **told)
  return folder


@pytest.fixture(scope='session')
def music_lm(model_dir):
  return MusicLM.load(model_dir)
