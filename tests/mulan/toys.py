# SPDX-License-Identifier: Apache-2.0
"""A MuLan of a few thousand parameters, and pairs that it can tell apart."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax.audio import spectral
from musiclm_jax.mulan import (
  audio_tower,
  bert,
  encoder,
  model,
  spec_augment,
  text_tower,
  vision_transformer,
  wordpiece,
)

RATE_HZ = 1600
SAMPLES = 1600
MAX_TOKENS = 11

WORDS = ('low', 'high', 'soft', 'loud', 'short', 'long', 'dark', 'bright')
TEXTS = tuple(f'a {a} and {b} tone' for a in WORDS for b in WORDS if a != b)
VOCABULARY = wordpiece.train(TEXTS, num_tokens=53)


def vocabulary_of_bert_base():
  """As many tokens as it has, and no more sense."""
  words = (f'w{number}' for number in range(30522 - len(wordpiece.SPECIAL)))
  return wordpiece.WordPiece(tokens=(*wordpiece.SPECIAL, *words))


def fill(init, *arguments, seed=1, **options):
  """Variables of the shapes that `init` makes, drawn without compiling it.

  Norms too differ from what they begin as.
  """
  boxed = jax.eval_shape(init, jax.random.key(0), *arguments, **options)
  draws = np.random.default_rng(seed)

  def draw(path, leaf):
    name = getattr(path[-1], 'key', None)
    values = 0.3 * draws.normal(size=leaf.shape)
    first = {'scale': 1.0, 'temperature_logit': math.log(1 / 9)}.get(name, 0.0)
    if not leaf.shape:
      values = 0.0
    return jnp.asarray(first + values, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, meta.unbox(boxed))


def text_encoder(**changes):
  sizes = {
    'num_layers': 1,
    'num_heads': 2,
    'embed_dim': 16,
    'mlp_dim': 24,
    'norm': 'after',
  }
  return encoder.EncoderConfig(**sizes | changes)


def config(*, body=None, dropout_rate=0.0, augment=True, dtype='float32'):
  types = {'dtype': dtype, 'param_dtype': dtype}
  if body is None:  # Compiles faster than convolutions.
    body = vision_transformer_body(**types)
  mel = spectral.MelConfig(
    sample_rate_hz=RATE_HZ, window_samples=128, hop_samples=40, num_mels=16
  )
  return model.MulanConfig(
    audio=audio_tower.AudioTowerConfig(
      mel=mel,
      body=body,
      window_seconds=1,
      augment=spec_augment.SpecAugmentConfig(max_frames=7, max_mels=3)
      if augment
      else None,
    ),
    text=text_tower.TextTowerConfig(
      bert=bert.BertConfig(
        encoder=text_encoder(dropout_rate=dropout_rate, **types), max_tokens=11
      ),
      vocabulary=VOCABULARY,
    ),
    embed_dim=8,
    max_tokens=MAX_TOKENS,
  )


def vision_transformer_body(**changes):
  return vision_transformer.VisionTransformerConfig(
    encoder=dataclasses.replace(
      text_encoder(dropout_rate=0.0), norm='before', **changes
    ),
    patch=(8, 4),
    stride=(5, 3),
  )


def batch(num_rows, *, seed=0, missing=(), dtype=np.float32):
  """Row i is a tone of its own pitch with a text of its own.

  Rows in `missing` have no text; the last row's audio ends early.
  """
  draws = np.random.default_rng((5, seed))
  numbers = draws.choice(len(TEXTS), num_rows, replace=False)
  time = np.arange(SAMPLES) / RATE_HZ
  pitches = 60 + 12 * numbers[:, None]
  waveform = 0.3 * np.sin(2 * np.pi * pitches * time)
  waveform += 0.01 * draws.normal(size=waveform.shape)
  mask = np.ones(waveform.shape, bool)
  mask[-1, SAMPLES // 2 :] = False
  texts = [
    '' if row in missing else TEXTS[number]
    for row, number in enumerate(numbers)
  ]
  tokens, token_mask = VOCABULARY(texts, num_tokens=MAX_TOKENS)
  return {
    'waveform': (waveform * mask).astype(dtype),
    'sample_mask': mask,
    'text_tokens': tokens,
    'text_mask': token_mask,
  }
