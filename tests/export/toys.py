# SPDX-License-Identifier: Apache-2.0
"""Small bundles with random weights; drawn, since to compile `init` is slow."""

import jax
import numpy as np
from flax.core import meta

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import soundstream
from musiclm_jax.quantization import residual
from tests.semantic import toy_tokenizer

HOP = 6


def codec_config(*, factorized_dim=None, **changes):
  return soundstream.SoundStreamConfig(
    **{
      'sample_rate_hz': 60,
      'channels': 5,
      'strides': (2, 3),
      'embed_dim': 7,
      'quantizer': residual.ResidualQuantizerConfig(
        num_levels=3, codebook_size=17, factorized_dim=factorized_dim
      ),
      **changes,
    }
  )


def draw(shapes, *, seed=0):
  """Leaves of these shapes and types, norms above 0."""
  draws = np.random.default_rng(seed)

  def leaf(path, struct):
    if struct.dtype == bool:
      return np.ones(struct.shape, bool)
    values = draws.normal(0, 0.3, struct.shape)
    if path[-1].key in ('weight_g', 'counts', 'scale', 'deviation'):
      values = 0.5 + abs(values)
    return values.astype(struct.dtype)

  return jax.tree_util.tree_map_with_path(leaf, meta.unbox(shapes))


def codec_weights(config, *, seed=0):
  shapes = jax.eval_shape(
    soundstream.SoundStream(config).init,
    jax.random.key(0),
    np.zeros((1, HOP), np.float32),
    key=jax.random.key(0),
  )
  return draw(shapes, seed=seed)


def publish_codec(directory, *, seed=0, **changes):
  config = codec_config(**changes)
  contents = bundle.BundleContents(
    kind='codec',
    config=config,
    weights=codec_weights(config, seed=seed),
    stream_out=config.stream,
  )
  return bundle.publish(directory, contents)


publish_semantic = toy_tokenizer.publish
