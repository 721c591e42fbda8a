# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.evaluation.embedders import loading, musicnn
from tests.evaluation import toy_ear


def test_every_file_with_a_load_is_known_by_its_name():
  assert {'musicnn', 'mulan', 'codec'} <= set(loading.names())
  assert not {'base', 'loading', 'tensor_bundle'} & set(loading.names())


def test_weights_are_by_path_unless_they_are_in_a_package(monkeypatch):
  ear = toy_ear.ToyEar()
  monkeypatch.setattr(musicnn, 'load', lambda: ear)
  assert loading.load('musicnn') is ear
  with pytest.raises(ValueError, match='weights in a package'):
    loading.load('musicnn', 'here')
  with pytest.raises(ValueError, match='write mulan=PATH'):
    loading.load('mulan')
  with pytest.raises(ValueError, match="no embedder 'ears'"):
    loading.load('ears')
