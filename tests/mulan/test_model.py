# SPDX-License-Identifier: Apache-2.0
import functools
import math

import gin
import jax
import numpy as np
import pytest

from musiclm_jax.cli import flags, setup
from musiclm_jax.mulan import model, resnet
from tests.mulan import toys

# Of BERT-base's encoder and of AST's: 12 layers of width 768 and 3072.
ENCODER = 12 * (4 * 768 * 769 + 768 * 3073 + 3072 * 769 + 4 * 768)
BERT_BASE = (30522 + 512 + 2 + 2) * 768 + ENCODER
PROJECTION = 768 * 128 + 128

# Of torchvision's ResNet-50: without its classifier, and one channel in for 3.
RESNET_50 = 25_557_032 - 2048 * 1000 - 1000 - 2 * 7 * 7 * 64
# 99 × 12 patches and [CLS].
AST = ENCODER + 2 * 768 + (16 * 16 + 1) * 768 + (1 + 99 * 12 + 1) * 768

SIZE = """
from __gin__ import dynamic_registration
from tests.mulan import toys
include 'models/mulan/{size}.gin'
VOCABULARY = @toys.vocabulary_of_bert_base()
"""


@functools.cache
def towers():
  config = toys.config()
  return config.make_towers(toys.fill(config.init))


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  'size, audio, width',
  [('resnet50', RESNET_50, 2048), ('ast', AST, 768)],
)
def test_the_sizes_of_the_paper(tmp_path, size, audio, width):
  (tmp_path / 'size.gin').write_text(SIZE.format(size=size))
  parser = flags.Parser()
  parser.add_gin_flags()
  options = parser.parse_args([f'--gin_file={tmp_path / "size.gin"}'])
  config = setup.configure(options, root=model.MulanConfig)()
  gin.clear_config()
  params = jax.eval_shape(config.init, jax.random.key(0))['params']
  assert count(params['text']) == BERT_BASE + PROJECTION
  assert count(params['audio']) == audio + width * 128 + 128
  assert config.window_samples == 160_000 and config.embed_dim == 128
  assert config.audio.mel.num_frames(160_000) == 1000
  assert config.audio.mel.num_filters == (128 if size == 'ast' else 64)


def test_embeddings_are_unit_vectors_that_differ():
  audio = towers().embed_audio(toys.batch(3)['waveform'])
  text = towers().embed_text(toys.TEXTS[:5])
  for embeddings, rows in ((audio, 3), (text, 5)):
    assert embeddings.shape == (rows, 8)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose((embeddings**2).sum(1), 1, rtol=1e-5)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3


def test_a_text_is_embedded_alike_whatever_stands_beside_it():
  alone = towers().embed_text([toys.TEXTS[7]])[0]
  among = towers().embed_text([*toys.TEXTS[:20], toys.TEXTS[7]])
  np.testing.assert_array_equal(among[20], alone)
  np.testing.assert_array_equal(among[7], alone)
  assert towers().embed_text([]).shape == (0, 8)


def test_padding_of_a_text_changes_nothing():
  module = model.Mulan(toys.config())
  text = jax.jit(functools.partial(module.apply, method='embed_text'))
  weights = towers()._weights
  texts = toys.TEXTS[:3]
  tokens, mask = toys.VOCABULARY(texts, num_tokens=toys.MAX_TOKENS)
  wanted = np.asarray(text(weights, tokens, mask))
  # Other ids where nothing is valid, and fewer columns.
  other = np.where(mask, tokens, 7)
  np.testing.assert_array_equal(text(weights, other, mask), wanted)
  shorter, valid = toys.VOCABULARY(texts, num_tokens=8)
  assert valid.sum() == mask.sum()
  np.testing.assert_allclose(text(weights, shorter, valid), wanted, atol=1e-6)
  changed = np.where(np.arange(toys.MAX_TOKENS) == 2, 7, tokens)
  assert not np.allclose(text(weights, changed, mask), wanted, atol=1e-3)


def test_what_lies_under_padding_is_not_heard():
  batch = toys.batch(3)
  waveform, mask = batch['waveform'], batch['sample_mask']
  noise = np.random.default_rng(3).normal(size=waveform.shape)
  loud = np.where(mask, waveform, noise).astype(np.float32)
  np.testing.assert_array_equal(
    towers().embed_audio(loud, mask), towers().embed_audio(waveform, mask)
  )
  whole = towers().embed_audio(loud)
  assert not np.allclose(whole, towers().embed_audio(loud, mask), atol=1e-3)


def test_what_cannot_be_embedded_is_an_error():
  with pytest.raises(ValueError, match='1599 samples.*1600 at 1600 Hz'):
    towers().embed_audio(np.zeros((2, 1599), np.float32))
  with pytest.raises(ValueError, match=r'Texts number \[1\] are empty'):
    towers().embed_text(['a low tone', ' '])


def test_the_temperature_begins_at_a_tenth_and_stays_within_one():
  params = towers()._weights['params']
  np.testing.assert_allclose(model.temperature(params), 0.1, rtol=1e-6)
  assert 0 < model.temperature({'temperature_logit': -50.0}) < 1e-9
  assert model.temperature({'temperature_logit': 50.0}) == 1


@pytest.mark.slow
@pytest.mark.parametrize('body', ['resnet', 'vision_transformer'])
def test_half_precision_towers_give_float32_near_those_of_whole(body):
  def embed(dtype):
    types = {'dtype': dtype, 'param_dtype': 'float32'}
    config = toys.config(
      body=resnet.ResNetConfig(blocks=(1,), channels=4, num_groups=2, **types)
      if body == 'resnet'
      else toys.vision_transformer_body(**types)
    )
    module, batch = model.Mulan(config), toys.batch(3)
    arguments = batch['waveform'], batch['sample_mask']
    weights = toys.fill(config.init)
    return jax.jit(functools.partial(module.apply, method='embed_audio'))(
      weights, *arguments
    )

  whole, half = embed('float32'), embed('bfloat16')
  assert half.dtype == whole.dtype == np.float32
  np.testing.assert_allclose(half, whole, atol=0.06)
  assert not np.array_equal(half, whole)
