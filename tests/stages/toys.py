# SPDX-License-Identifier: Apache-2.0
"""A small stage, its model and its code batches, for tests of what uses them.

The stage has two inputs and two output levels of four; every size differs from
every other. In the mesh's model all sizes that are split are multiples of 2.
"""

import functools

import jax
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import TokenStream

CLIP = TokenStream(name='clip', rate_hz=None, num_codebooks=3, codebook_size=5)
SLOW = TokenStream(name='slow', rate_hz=3, num_codebooks=1, codebook_size=7)
FAST = TokenStream(name='fast', rate_hz=6, num_codebooks=4, codebook_size=11)

SPEC = StageSpec(
  name='toy',
  inputs=(Take(stream=CLIP), Take(stream=SLOW)),
  output=Take(stream=FAST, count=2),
  window_seconds=2,
)
FRAMES = {'clip': 1, 'slow': 6, 'fast': 12}


def config(**changes) -> lm.StageLMConfig:
  """A model of two layers; `changes` go to its Transformer."""
  sizes = {'num_layers': 2, 'num_heads': 2, 'embed_dim': 14, 'mlp_dim': 13}
  return lm.StageLMConfig(
    spec=SPEC, transformer=TransformerConfig(**(sizes | changes))
  )


def codes(num_rows, *, seed=0):
  """Random codes of every stream of one window."""
  draws = np.random.default_rng(seed)
  return {
    stream.name: draws.integers(
      stream.codebook_size,
      size=(num_rows, FRAMES[stream.name], stream.num_codebooks),
    ).astype(np.int32)
    for stream in (CLIP, SLOW, FAST)
  }


def batch(num_rows, *, seed=0):
  """What an objective is given."""
  made = codes(num_rows, seed=seed)
  return {batches.codes_key(name): array for name, array in made.items()}


@functools.partial(jax.jit, static_argnames=('config', 'method'))
def forward(config, params, tokens, *, method='__call__'):
  """The logits of whole rows, compiled."""
  return lm.StageLM(config).apply({'params': params}, tokens, method=method)


def params(config, *, seed=0):
  """Fresh parameters, unboxed."""
  tokens = config.layout.pack(codes(1))
  variables = jax.jit(lm.StageLM(config).init)(jax.random.key(seed), tokens)
  return meta.unbox(variables)['params']
