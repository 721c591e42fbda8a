# SPDX-License-Identifier: Apache-2.0
"""Samplers beside JAX's, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from musiclm_jax.export.pytorch import sampling, threefry
from musiclm_jax.inference import sampling as jax_sampling

SEEDS = np.arange(97)
LOGITS = (
  np.random.default_rng(3).normal(size=(len(SEEDS), 23)).astype(np.float32)
)


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'temperature': 0.4, 'top_p': 0.7},
    {'temperature': 1.5, 'top_k': 7, 'top_p': 0.6},
    {'top_k': 99},
  ],
  ids=str,
)
def test_the_same_codes_are_drawn_as_in_jax(fields):
  wanted = jax_sampling.Categorical(**fields)(
    jnp.asarray(LOGITS), jax.vmap(jax.random.key)(jnp.uint32(SEEDS))
  )
  found = sampling.Sampler(**fields)(
    torch.from_numpy(LOGITS), threefry.keys_of(torch.from_numpy(SEEDS))
  )
  np.testing.assert_array_equal(found.numpy(), wanted)
  assert len(set(found.tolist())) > 3


def test_a_temperature_of_0_takes_the_likeliest_and_the_first_of_equals():
  logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
  keys = threefry.keys_of(torch.arange(2))
  for sampler in (sampling.Sampler(0.0), sampling.Sampler(0.0, top_k=2)):
    assert sampler(logits, keys).tolist() == [1, 0]


def test_top_k_keeps_ties_and_top_p_the_fewest():
  logits = torch.tensor([[3.0, 1.0, 3.0, 2.0]])
  assert sampling.keep_top_k(logits, k=1).isfinite().tolist() == [
    [True, False, True, False]
  ]
  shares = torch.tensor([[0.5, 0.2, 0.3]]).log()
  assert sampling.keep_top_p(shares, p=0.6).isfinite().tolist() == [
    [True, False, True]
  ]


def test_guidance_goes_away_from_the_unconditional():
  found = sampling.guided(torch.tensor([2.0]), torch.tensor([1.0]), scale=3.0)
  assert found.item() == 4


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'temperature': -1.0}, 'temperature is -1.0'),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'top_k': 0}, 'top_k is 0'),
    ({'top_p': 1.5}, 'top_p is 1.5'),
  ],
)
def test_what_cannot_be_drawn_with_is_refused(fields, words):
  with pytest.raises(ValueError, match=words):
    sampling.Sampler(**fields)
