# SPDX-License-Identifier: Apache-2.0
"""A w2v-BERT of two blocks a stack, at 1600 Hz, and clips for it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.layers.conformer import ConformerConfig
from musiclm_jax.quantization.gumbel import GumbelQuantizerConfig
from musiclm_jax.semantic.subsampling import SubsamplingConfig
from musiclm_jax.semantic.w2v_bert import W2vBert, W2vBertConfig

RATE = 1600
HOP = 64  # 25 frames a second.


def config(**block):
  block = {
    'num_heads': 2,
    'embed_dim': 12,
    'mlp_dim': 20,
    'dropout_rate': 0.0,
    'position': 'rotary',
  } | block
  return W2vBertConfig(
    block=ConformerConfig(**block),
    num_contrastive_blocks=1,
    num_mlm_blocks=2,
    quantizer=GumbelQuantizerConfig(
      codebook_size=11, code_dim=7, temperature_decay=0.9
    ),
    subsampling=SubsamplingConfig(
      sample_rate_hz=RATE,
      mel_hop_samples=16,
      mel_window_samples=64,
      num_mels=13,
      channels=3,
    ),
  )


CONFIG = config()


def batch(num_rows=2, num_samples=31 * HOP, seed=0, dtype=np.float32):
  """Notes of a quarter second, each a tone of its own pitch."""
  draws = np.random.default_rng(seed)
  notes = draws.uniform(100, 700, (num_rows, num_samples // 400 + 1))
  pitches = np.repeat(notes, 400, axis=1)[:, :num_samples]
  waveform = 0.3 * np.sin(2 * np.pi * np.cumsum(pitches, axis=1) / RATE)
  waveform += 0.01 * draws.normal(size=waveform.shape)
  return {
    batches.WAVEFORM: waveform.astype(dtype),
    batches.SAMPLE_MASK: np.ones(waveform.shape, bool),
  }


@functools.cache
def variables(model=CONFIG):
  """Random ones of the structure of `init`, which takes longer to compile."""
  shapes = jax.eval_shape(
    lambda waveform, sample_mask: W2vBert(model).init(
      jax.random.key(0),
      waveform,
      sample_mask=sample_mask,
      span_mask=model.frame_mask(sample_mask),
    ),
    *map(jnp.asarray, batch().values()),
  )
  draws = np.random.default_rng(1)

  def fill(path, leaf):
    if leaf.dtype != jnp.float32 or path[-1].key in ('bias', 'scale'):
      return jnp.full(leaf.shape, path[-1].key == 'scale', leaf.dtype)
    deviation = (leaf.shape[-1] if len(leaf.shape) > 1 else 1) ** -0.5
    return jnp.asarray(draws.normal(0, deviation, leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, meta.unbox(shapes))


def scanned(model=CONFIG):
  block = dataclasses.replace(model.block, scan_layers=True, remat=True)
  return dataclasses.replace(model, block=block)
