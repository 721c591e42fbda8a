# SPDX-License-Identifier: Apache-2.0
"""A small w2v-BERT with random weights, as bundles of either kind."""

import dataclasses
import functools

import jax
import numpy as np
from flax.core import meta

from musiclm_jax.checkpoints import bundle
from musiclm_jax.layers import conformer
from musiclm_jax.quantization import gumbel
from musiclm_jax.semantic import subsampling, tokenizer, w2v_bert

RATE_HZ = 16_000
HOP = 640
NUM_CLUSTERS = 11

MODEL = w2v_bert.W2vBertConfig(
  block=conformer.ConformerConfig(
    num_heads=2, embed_dim=14, mlp_dim=22, kernel_size=3
  ),
  num_contrastive_blocks=1,
  num_mlm_blocks=2,
  quantizer=gumbel.GumbelQuantizerConfig(codebook_size=13, code_dim=6),
  subsampling=subsampling.SubsamplingConfig(channels=3, num_mels=20),
)

# Windows of 4 s (100 frames), 1 s dropped at an inner edge.
CONFIG = tokenizer.SemanticTokenizerConfig(
  model=MODEL,
  num_mlm_blocks=1,
  num_clusters=NUM_CLUSTERS,
  window_seconds=4,
  margin_seconds=1,
  bucket_seconds=2,
)


@functools.cache
def params(seed=0):
  """Drawn here: to compile the initialisation takes longer than all else."""
  shapes = jax.eval_shape(
    w2v_bert.W2vBert(MODEL).init,
    jax.random.key(0),
    np.zeros((1, HOP), np.float32),
    sample_mask=np.ones((1, HOP), bool),
    span_mask=np.zeros((1, 1), bool),
  )
  generator = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key == 'scale':
      return np.ones(leaf.shape, np.float32)
    return generator.normal(0, 0.3, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, meta.unbox(shapes)['params'])


def weights(seed=0):
  """Centroids among the activations: all of them get frames."""
  generator = np.random.default_rng(seed)
  shape = (NUM_CLUSTERS, MODEL.embed_dim)
  return {
    tokenizer.PARAMS: CONFIG.needed(params(seed)),
    tokenizer.SCALER: {
      'mean': np.zeros(MODEL.embed_dim, np.float32),
      'deviation': np.ones(MODEL.embed_dim, np.float32),
    },
    tokenizer.CENTROIDS: generator.standard_normal(shape).astype(np.float32),
  }


def make():
  stream = dataclasses.replace(CONFIG.stream, fingerprint='toy')
  return CONFIG.make_tokenizer(weights(), stream=stream)


def publish(directory, seed=0):
  return bundle.publish(
    directory,
    bundle.BundleContents(
      kind='semantic',
      config=CONFIG,
      weights=weights(seed),
      stream_out=CONFIG.stream,
      trained_on={'w2v_bert': 'toy'},
    ),
  )


def publish_model(directory, seed=0):
  return bundle.publish(
    directory,
    bundle.BundleContents(
      kind='w2v_bert',
      config=MODEL,
      weights={'params': params(seed)},
      stream_out=None,
    ),
  )


def music(seconds, *, seed=0, rate_hz=RATE_HZ):
  """A melody: a new random pitch four times a second."""
  generator = np.random.default_rng(seed)
  num_samples = round(seconds * rate_hz)
  time = np.arange(num_samples) / rate_hz
  hz = 110 * 2 ** generator.uniform(0, 3, size=int(seconds * 4) + 1)
  pitch = hz[(time * 4).astype(int)]
  sound = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / rate_hz)
  return sound.astype(np.float32)
