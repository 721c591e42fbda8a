# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.semantic import base
from tests.semantic import toy_tokenizer


def test_a_published_tokenizer_is_loaded_with_its_fingerprint(tmp_path):
  fingerprint = toy_tokenizer.publish(tmp_path)
  loaded = base.load_semantic(tmp_path)
  assert isinstance(loaded, base.SemanticTokenizer)
  assert loaded.stream.fingerprint == fingerprint
  assert loaded.stream.name == 'semantic'


def test_the_model_alone_is_no_tokenizer(tmp_path):
  toy_tokenizer.publish_model(tmp_path)
  with pytest.raises(ValueError, match="kind 'semantic'.*'w2v_bert'"):
    base.load_semantic(tmp_path)
