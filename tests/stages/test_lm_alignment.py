# SPDX-License-Identifier: Apache-2.0
"""A stage whose inputs stand farther away than T5's bias can tell."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import TokenStream

SLOW = TokenStream(name='slow', rate_hz=25, num_codebooks=1, codebook_size=16)
FAST = TokenStream(name='fast', rate_hz=50, num_codebooks=2, codebook_size=16)
SPEC = StageSpec(
  name='copy',
  inputs=(Take(stream=SLOW),),
  output=Take(stream=FAST, count=2),
  window_seconds=2,
)


def rows(draws, layout):
  """16 rows: level 1 copies the slow code of its moment, level 2 is noise."""
  slow = draws.integers(16, size=(16, 50, 1))
  noise = draws.integers(16, size=(16, 100))
  fast = np.stack([np.repeat(slow[..., 0], 2, axis=1), noise], axis=-1)
  return layout.pack(
    {'slow': slow.astype(np.int32), 'fast': fast.astype(np.int32)}
  ), fast


def bits_after(num_steps, *, position):
  """Bits per code of both levels, after so many steps of training."""
  config = lm.StageLMConfig(
    spec=SPEC,
    transformer=TransformerConfig(
      num_layers=2,
      num_heads=4,
      embed_dim=64,
      mlp_dim=128,
      dropout_rate=0.0,
      max_distance=32,
      position=position,
    ),
  )
  model, draws = lm.StageLM(config), np.random.default_rng(0)
  tokens, _ = rows(draws, config.layout)
  params = meta.unbox(model.init(jax.random.key(0), tokens))['params']
  rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 30, num_steps)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
  state = optimizer.init(params)

  def loss(params, tokens, codes):
    logits = jax.nn.log_softmax(model.apply({'params': params}, tokens))
    nats = -jnp.take_along_axis(logits, codes[..., None], axis=-1)[..., 0]
    bits = nats.mean((0, 1)) / np.log(2)
    return bits.mean(), bits

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, tokens, codes):
    gradient, bits = jax.grad(loss, has_aux=True)(params, tokens, codes)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, bits

  for _ in range(num_steps):
    params, state, bits = step(params, state, *rows(draws, config.layout))
  return np.asarray(bits)


@pytest.mark.slow
def test_aligned_positions_find_the_codes_of_their_moment_and_t5s_do_not():
  copied, noise = bits_after(250, position='aligned')
  assert copied < 0.5
  # Where it cannot look, it can repeat the frame before: 2 bits, at the least.
  assert bits_after(250, position='relative')[0] > 1.5
  assert noise == pytest.approx(4, abs=0.1)
