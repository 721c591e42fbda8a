# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.inference import sampling
from musiclm_jax.inference.sampling import Categorical

# Probabilities 0.5, 0.2, 0.15, 0.1, 0.05, in disorder.
PROBABILITY = np.asarray([0.1, 0.5, 0.05, 0.2, 0.15])
LOGITS = jnp.log(jnp.asarray(PROBABILITY, jnp.float32))[None]


def kept(logits):
  return np.flatnonzero(np.isfinite(logits[0])).tolist()


def draw(sampler, num_draws=4000, logits=LOGITS):
  keys = jax.random.split(jax.random.key(0), num_draws)
  codes = sampler(jnp.broadcast_to(logits, (num_draws, 5)), keys)
  return np.bincount(codes, minlength=5) / num_draws


@pytest.mark.parametrize(
  'sampler', [sampling.greedy, Categorical(temperature=0.0, top_k=2, top_p=0.1)]
)
def test_greedy_takes_the_first_of_the_likeliest(sampler):
  logits = jnp.asarray([[0.0, 2, 2], [3, 1, 2]])
  keys = jax.random.split(jax.random.key(0), 2)
  np.testing.assert_array_equal(sampler(logits, keys), [1, 0])


@pytest.mark.parametrize(
  'k, codes', [(1, [1]), (3, [1, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_top_k_keeps_the_k_likeliest(k, codes):
  assert kept(sampling.keep_top_k(LOGITS, k=k)) == codes


@pytest.mark.parametrize(
  'p, codes',
  [
    (0.01, [1]),
    (0.45, [1]),
    (0.6, [1, 3]),
    (0.8, [1, 3, 4]),
    (1.0, [0, 1, 2, 3, 4]),
  ],
)
def test_top_p_keeps_the_fewest_that_reach_p(p, codes):
  assert kept(sampling.keep_top_p(LOGITS, p=p)) == codes


def test_draws_follow_the_probabilities():
  np.testing.assert_allclose(draw(Categorical()), PROBABILITY, atol=0.03)
  sharpened = PROBABILITY**2 / np.sum(PROBABILITY**2)
  np.testing.assert_allclose(
    draw(Categorical(temperature=0.5)), sharpened, atol=0.03
  )


def test_draws_outside_the_likeliest_never_happen():
  found = draw(Categorical(temperature=2.0, top_k=3, top_p=0.6))
  # Of the three likeliest at temperature 2, two reach 0.6.
  assert np.flatnonzero(found).tolist() == [1, 3]


def test_each_row_draws_by_its_own_key():
  keys = jax.random.split(jax.random.key(1), 7)
  logits = jax.random.normal(jax.random.key(2), (7, 101))
  together = Categorical()(logits, keys)
  order = jnp.asarray([3, 1, 6, 0, 2, 5, 4])
  np.testing.assert_array_equal(
    Categorical()(logits[order], keys[order]), together[order]
  )


def test_guidance_goes_away_from_the_unconditional():
  conditional, unconditional = jnp.asarray([[1.0, 4]]), jnp.asarray([[2.0, 3]])
  np.testing.assert_array_equal(
    sampling.guided(conditional, unconditional, scale=3.0), [[-1, 6]]
  )
  np.testing.assert_array_equal(
    sampling.guided(conditional, unconditional, scale=1.0), conditional
  )


@pytest.mark.parametrize(
  'options, match',
  [
    ({'temperature': -0.1}, 'temperature is -0.1'),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'top_k': 0}, 'top_k is 0'),
    ({'top_p': 1.5}, 'top_p is 1.5'),
  ],
)
def test_settings_without_a_meaning_are_errors(options, match):
  with pytest.raises(ValueError, match=match):
    Categorical(**options)
