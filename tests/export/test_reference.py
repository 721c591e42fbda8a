# SPDX-License-Identifier: Apache-2.0
"""What is compared is the same model; what is exported goes back exactly."""

import dataclasses

import jax
import numpy as np

from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.conditioning import mulan
from musiclm_jax.export import naming, reference
from musiclm_jax.mulan import model
from tests.export import whole
from tests.mulan import toys


def scanned():
  """A MuLan of two scanned layers in each tower, computed in bfloat16."""
  plain = whole.conditioner()
  towers = plain.config.towers
  text = towers.text.bert.encoder
  changes = {
    'num_layers': 2,
    'scan_layers': True,
    'remat': True,
    'dtype': 'bfloat16',
  }
  bert = dataclasses.replace(
    towers.text.bert, encoder=dataclasses.replace(text, **changes)
  )
  towers = dataclasses.replace(
    towers,
    text=dataclasses.replace(towers.text, bert=bert),
    audio=dataclasses.replace(
      towers.audio, body=toys.vision_transformer_body(**changes)
    ),
  )
  weights = {**plain.weights, mulan.TOWERS: toys.fill(towers.init)}
  return dataclasses.replace(
    plain,
    config=dataclasses.replace(plain.config, towers=towers),
    weights=jax.tree.map(np.asarray, weights),  # As a bundle is read.
  )


def embed(config, weights, texts):
  tokens, mask = config.towers.text.vocabulary(texts, num_tokens=11)
  embeddings = jax.jit(
    lambda weights: model.Mulan(config.towers).apply(
      weights, tokens, mask, method='embed_text'
    )
  )(weights[mulan.TOWERS])
  return np.asarray(embeddings, np.float32)


def test_scanned_layers_in_bfloat16_are_the_same_model():
  contents = scanned()
  plain = reference.plain(contents)
  body = plain.config.towers.text.bert.encoder
  assert (body.dtype, body.scan_layers, body.remat) == ('float32', False, False)
  paths = fingerprints.flatten(plain.weights)
  assert 'towers/params/text/bert/encoder/layer_1/attention_norm/bias' in paths
  texts = list(toys.TEXTS[:3])
  np.testing.assert_allclose(
    embed(plain.config, plain.weights, texts),
    embed(contents.config, contents.weights, texts),
    atol=0.03,  # That of bfloat16.
  )


def test_scanned_layers_go_to_pytorch_and_back_bit_for_bit():
  contents = scanned()
  state = naming.to_state_dict(contents.weights, kind=contents.kind)
  assert 'text.bert.encoder.layers.1.attention.out.weight' in state
  back = naming.from_state_dict(
    state, kind=contents.kind, described=naming.describe(contents.weights)
  )
  found, wanted = (
    fingerprints.flatten(weights) for weights in (back, contents.weights)
  )
  assert found.keys() == wanted.keys()
  for path, leaf in wanted.items():
    np.testing.assert_array_equal(found[path], leaf)


def test_half_weights_become_float32_and_others_stay():
  plain = whole.conditioner()
  weights = {
    'towers': {'params': {'a': np.full(3, 1.5, 'bfloat16')}},
    'quantizer': {'codebooks': {'initialised': np.array(True)}},
  }
  found = reference.plain(dataclasses.replace(plain, weights=weights)).weights
  assert found['towers']['params']['a'].dtype == np.float32
  assert found['towers']['params']['a'].tolist() == [1.5] * 3
  assert found['quantizer']['codebooks']['initialised'].dtype == bool
