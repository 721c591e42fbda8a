# SPDX-License-Identifier: Apache-2.0
"""One tiny MusicLM for all tests of inference, compiled once."""

import pytest

from musiclm_jax.inference.music_lm import MusicLM
from tests.inference import toys


@pytest.fixture(scope='session')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('music_lm')
  toys.publish(directory)
  return directory


@pytest.fixture(scope='session')
def music_lm(model_dir):
  return MusicLM.load(model_dir)
