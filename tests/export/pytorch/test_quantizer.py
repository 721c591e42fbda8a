# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from musiclm_jax.export.pytorch import quantizer
from musiclm_jax.export.pytorch.configuration import Config
from musiclm_jax.quantization import residual


def make(**sizes):
  defaults = {'num_levels': 2, 'codebook_size': 2, 'factorized_dim': None}
  return quantizer.ResidualQuantizer(Config(**defaults | sizes), embed_dim=1)


def test_each_level_quantizes_what_is_left():
  module = make()
  module.embeddings[:] = torch.tensor([[[0.0], [10.0]], [[-1.0], [2.0]]])
  latents = torch.tensor([[[9.2], [1.5]]])
  codes = module.encode(latents)
  assert codes.tolist() == [[[1, 0], [0, 1]]]
  assert module.decode(codes).tolist() == [[[9.0], [2.0]]]
  assert module.encode(latents, num_levels=1).tolist() == [[[1], [0]]]
  assert module.decode(codes[..., :1]).tolist() == [[[10.0], [0.0]]]


def test_of_two_that_are_as_near_the_first_is_taken():
  centroids = torch.tensor([[3.0], [1.0], [-1.0], [1.0]])
  assert quantizer.nearest(
    torch.tensor([[0.0], [9.0]]), centroids
  ).tolist() == [
    1,
    0,
  ]


def test_casting_leaves_the_codebooks_as_they_are():
  module = make().to(torch.bfloat16)
  assert module.embeddings.dtype == torch.float32
  assert module.to(torch.float64).counts.dtype == torch.float32


@pytest.mark.parametrize('factorized_dim', [None, 3])
def test_codes_and_latents_are_those_of_jax(factorized_dim):
  sizes = {
    'num_levels': 3,
    'codebook_size': 17,
    'factorized_dim': factorized_dim,
  }
  draws = np.random.default_rng(0)
  latents = draws.normal(size=(2, 31, 7)).astype(np.float32)
  ours = residual.ResidualQuantizer(
    residual.ResidualQuantizerConfig(**sizes), embed_dim=7
  )
  theirs = quantizer.ResidualQuantizer(Config(**sizes), embed_dim=7)
  for tensor in theirs.state_dict().values():
    if tensor.is_floating_point():
      shape = tuple(tensor.shape)
      tensor.copy_(torch.from_numpy(draws.normal(size=shape)))
  state = {name: leaf.numpy() for name, leaf in theirs.state_dict().items()}
  projections = {k: state.pop(k) for k in list(state) if 'project' in k}
  variables = jax.tree.map(
    jnp.asarray, {'codebooks': state, 'params': projections}
  )
  wanted = jax.jit(lambda x: ours.apply(variables, x, method='encode'))(latents)
  codes = theirs.encode(torch.from_numpy(latents))
  np.testing.assert_array_equal(codes, wanted)
  assert len(np.unique(codes)) > 9
  np.testing.assert_allclose(
    theirs.decode(codes).detach(),
    ours.apply(variables, wanted, method='decode'),
    atol=1e-5,
  )
