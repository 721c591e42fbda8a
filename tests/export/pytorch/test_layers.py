# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from musiclm_jax.export.pytorch import layers
from musiclm_jax.layers import embedding, normalization

DRAWS = np.random.default_rng(0)
FRAMES = DRAWS.normal(2, 3, size=(2, 5, 6)).astype(np.float32)
GAIN, BIAS = DRAWS.normal(size=(2, 6)).astype(np.float32)


@pytest.mark.parametrize('name', ['RMSNorm', 'LayerNorm'])
def test_norms_are_those_of_jax(name):
  ours = getattr(normalization, name)()
  params = {'scale': GAIN} | ({'bias': BIAS} if name == 'LayerNorm' else {})
  wanted = ours.apply(
    {'params': jax.tree.map(jnp.asarray, params)}, jnp.asarray(FRAMES)
  )
  theirs = getattr(layers, name)(6)
  state = {'weight': GAIN, 'bias': BIAS}
  theirs.load_state_dict(
    {key: torch.from_numpy(state[key]) for key in theirs.state_dict()}
  )
  with torch.no_grad():
    made = theirs(torch.from_numpy(FRAMES))
  np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5)
  half = theirs.to(torch.bfloat16)(torch.from_numpy(FRAMES).bfloat16())
  assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
  ('num_buckets', 'max_distance'), [(32, 128), (8, 16), (17, 100)]
)
def test_distances_fall_into_the_buckets_of_jax(num_buckets, max_distance):
  sizes = {'num_buckets': num_buckets, 'max_distance': max_distance}
  wanted = embedding.distance_buckets(3_000, **sizes)
  made = layers.distance_buckets(torch.arange(3_000), **sizes)
  np.testing.assert_array_equal(made, wanted)


def test_rotary_embedding_is_that_of_jax():
  heads = DRAWS.normal(size=(2, 5, 3, 8)).astype(np.float32)
  positions = np.arange(1_000, 1_005)
  wanted = embedding.rotate(jnp.asarray(heads), jnp.asarray(positions))
  made = layers.rotate(
    torch.from_numpy(heads).transpose(1, 2), torch.from_numpy(positions)
  )
  np.testing.assert_allclose(made.transpose(1, 2), wanted, atol=2e-4)


def test_gelu_is_the_approximation_that_jax_takes():
  points = np.linspace(-4, 4, 101, dtype=np.float32)
  made = layers.gelu(torch.from_numpy(points))
  np.testing.assert_allclose(made, jax.nn.gelu(points), atol=1e-6)


def test_attention_looks_where_the_mask_says():
  torch.manual_seed(0)
  module = layers.SelfAttention(embed_dim=6, num_heads=2, head_dim=3)
  inputs = torch.randn(1, 5, 6)
  sees = torch.ones(5, 5, dtype=torch.bool).tril()
  changed = inputs.clone()
  changed[:, 3] += 1
  for mask in (sees, torch.zeros(5, 5).masked_fill(~sees, -1e30)):
    made, other = module(inputs, mask=mask), module(changed, mask=mask)
    assert torch.equal(made[:, :3], other[:, :3])
    assert not torch.allclose(made[:, 3:], other[:, 3:])
