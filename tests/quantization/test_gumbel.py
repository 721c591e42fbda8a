# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.quantization import gumbel
from musiclm_jax.quantization.gumbel import (
  SCHEDULE,
  GumbelQuantizer,
  GumbelQuantizerConfig,
)

CONFIG = GumbelQuantizerConfig(
  codebook_size=11,
  code_dim=5,
  first_temperature=2.0,
  last_temperature=0.7,
  temperature_decay=0.5,
)
LATENTS = jax.random.normal(jax.random.key(0), (2, 31, 7))
KEY = jax.random.key(1)


def variables():
  module = GumbelQuantizer(CONFIG)
  return meta.unbox(module.init(jax.random.key(2), LATENTS))


def quantize(key=None, made=None, **options):
  made = variables() if made is None else made
  return GumbelQuantizer(CONFIG).apply(made, LATENTS, key=key, **options)


def test_a_frame_gets_the_vector_of_one_code():
  made = variables()
  codebook = made['params']['codebook']
  without = quantize(made=made)
  np.testing.assert_allclose(
    without.vectors, codebook[without.codes], atol=1e-5
  )
  np.testing.assert_array_equal(without.codes, without.probabilities.argmax(-1))
  np.testing.assert_allclose(without.probabilities.sum(-1), 1, rtol=1e-5)
  drawn = quantize(KEY, made=made)
  # Codes and probabilities have no noise; vectors are of the code drawn.
  np.testing.assert_array_equal(drawn.codes, without.codes)
  distances = jnp.abs(drawn.vectors[:, :, None] - codebook[None, None]).sum(-1)
  assert distances.min(-1).max() < 1e-4
  assert (distances.argmin(-1) != without.codes).any()


def test_codes_are_drawn_by_their_probabilities():
  logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
  draws = gumbel.one_hot_choice(
    jnp.broadcast_to(logits, (5000, 3)), temperature=0.3, key=KEY
  )
  # Three standard deviations of 5000 draws are 0.021.
  np.testing.assert_allclose(draws.mean(0), [0.1, 0.6, 0.3], atol=0.021)
  assert set(np.unique(np.round(draws, 5))) == {0, 1}


def test_the_gradient_is_that_of_the_softmax_at_the_temperature():
  logits, weights = jnp.array([0.5, -1.0, 2.0]), jnp.array([3.0, 1.0, -2.0])

  def straight(logits):
    chosen = gumbel.one_hot_choice(logits, temperature=0.8, key=None)
    return chosen @ weights

  def soft(logits):
    return jax.nn.softmax(logits / 0.8) @ weights

  assert straight(logits) == -2.0
  np.testing.assert_allclose(
    jax.grad(straight)(logits), jax.grad(soft)(logits), rtol=1e-5
  )


def test_the_temperature_falls_with_the_steps_that_were_trained():
  made = variables()
  found = []
  for _ in range(4):
    quantized, updates = quantize(KEY, made=made, mutable=[SCHEDULE])
    found.append(float(quantized.temperature))
    made = {**made, **updates}
  np.testing.assert_allclose(found, [2.0, 1.0, 0.7, 0.7])
  # Evaluation counts nothing.
  assert quantize(made=made).temperature == found[-1]
  assert made[SCHEDULE]['num_steps'] == 4


def test_a_batch_of_half_precision_is_chosen_for_in_single():
  quantized = GumbelQuantizer(CONFIG).apply(
    variables(), LATENTS.astype('bfloat16')
  )
  assert quantized.vectors.dtype == quantized.probabilities.dtype == jnp.float32


def test_logits_start_at_the_deviation_that_is_asked_for():
  wide = GumbelQuantizerConfig(
    codebook_size=997, code_dim=5, first_deviation=3.0
  )
  latents = jax.random.normal(KEY, (1, 53, 64))
  made = GumbelQuantizer(wide).init(jax.random.key(2), latents)
  kernel = meta.unbox(made)['params']['logits']['kernel']
  assert 2.8 < (latents[0] @ kernel.T).std() < 3.2


@pytest.mark.parametrize(
  ('probabilities', 'wanted'),
  [
    ([0.25] * 4, 0.0),
    ([1.0, 0.0, 0.0, 0.0], 0.75),
    ([0.5, 0.5, 0.0, 0.0], 0.5),
  ],
)
def test_diversity_is_one_less_the_share_of_the_codes_in_use(
  probabilities, wanted
):
  probabilities = jnp.array(probabilities)
  value, gradient = jax.value_and_grad(gumbel.diversity_loss)(probabilities)
  np.testing.assert_allclose(value, wanted, atol=1e-5)
  assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'codebook_size': 1}, 'at least 2 codes, not 1'),
    ({'last_temperature': 3.0}, 'from 2.0 to 3.0'),
    ({'temperature_decay': 1.5}, 'not within'),
  ],
)
def test_settings_that_cannot_be_are_an_error(settings, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **settings)
