# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from musiclm_jax.mulan import bert
from tests.mulan import toys

CONFIG = bert.BertConfig(
  encoder=toys.text_encoder(dropout_rate=0.0), max_tokens=7
)
NUM_IDS = 13


def test_places_of_tokens_matter():
  module = bert.Bert(CONFIG, num_ids=NUM_IDS)
  tokens = np.array([[1, 5, 2, 9], [1, 2, 5, 9]], np.int32)
  mask = np.ones(tokens.shape, bool)
  params = toys.fill(module.init, tokens, token_mask=mask)
  assert params['params']['words'].shape == (NUM_IDS, 16)
  made = jax.jit(module.apply)(params, tokens, token_mask=mask)
  assert made.shape == (2, 4, 16)
  assert not np.allclose(made[0, 0], made[1, 0], atol=1e-3)


def test_longer_texts_than_there_are_positions_are_an_error():
  module = bert.Bert(CONFIG, num_ids=NUM_IDS)
  tokens = np.zeros((1, 8), np.int32)
  with pytest.raises(ValueError, match='8 tokens is longer than the 7'):
    module.init(jax.random.key(0), tokens, token_mask=tokens == 0)


def test_norms_stand_after_the_layers():
  with pytest.raises(ValueError, match="'after' its layers, not 'before'"):
    bert.BertConfig(encoder=toys.text_encoder(norm='before'))
