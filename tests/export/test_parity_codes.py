# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from musiclm_jax.export import parity_codes
from musiclm_jax.export.pytorch.configuration import Config
from musiclm_jax.export.pytorch.quantizer import ResidualQuantizer

CENTROIDS = np.array([[0.0, 0.0], [2.0, 0.0]])


def flips(wanted_point, got_point, codes=(0, 1)):
  return parity_codes.nearest_flips(
    np.array([wanted_point]),
    np.array([got_point]),
    centroids=CENTROIDS,
    wanted=np.array(codes[:1]),
    got=np.array(codes[1:]),
  )


def test_a_point_that_moved_over_the_border_explains_its_code():
  # The border is at 1: 0.1 before it, 0.1 beyond.
  assert flips([0.9, 0], [1.1, 0]).num_unexplained == 0


def test_a_point_that_did_not_move_as_far_as_the_border_does_not():
  assert flips([0.5, 0], [0.6, 0]).num_unexplained == 1


def test_a_tie_within_rounding_is_explained():
  assert flips([1 - 1e-8, 0], [1 - 1e-8, 0]).num_unexplained == 0
  assert flips([1 - 1e-5, 0], [1 - 1e-5, 0]).num_unexplained == 1


def test_equal_codes_need_no_explanation():
  found = flips([0.5, 0], [0.6, 0], codes=(0, 0))
  assert (found.num_differing, found.note) == (0, '')


def quantizer(*, factorized_dim):
  draws = torch.Generator().manual_seed(0)
  module = ResidualQuantizer(
    Config(num_levels=3, codebook_size=5, factorized_dim=factorized_dim),
    embed_dim=4,
  )
  for tensor in module.state_dict().values():
    if tensor.is_floating_point():
      tensor.normal_(generator=draws)
  return module


def residual_flips(module, wanted_latents, got_latents, got=None):
  wanted = module.encode(torch.from_numpy(wanted_latents)[None])[0].numpy()
  made = module.encode(torch.from_numpy(got_latents)[None])[0].numpy()
  return parity_codes.residual_flips(
    wanted_latents,
    got_latents,
    quantizer={k: v.numpy() for k, v in module.state_dict().items()},
    wanted=wanted,
    got=made if got is None else got(made),
  )


def test_flips_of_any_level_are_explained_by_latents_that_moved():
  draws = np.random.default_rng(0)
  latents = draws.normal(size=(499, 4)).astype(np.float32)
  moved = latents + draws.normal(0, 0.01, latents.shape).astype(np.float32)
  for factorized_dim in (None, 2):
    found = residual_flips(
      quantizer(factorized_dim=factorized_dim), latents, moved
    )
    assert found.num_differing > 3
    assert found.num_unexplained == 0


def test_a_wrong_code_counts_once_however_many_follow_it():
  latents = np.random.default_rng(0).normal(size=(31, 4)).astype(np.float32)

  def shift(codes):
    codes = codes.copy()
    codes[7] = (codes[7] + 1) % 5  # At every level.
    return codes

  for factorized_dim in (None, 2):
    found = residual_flips(
      quantizer(factorized_dim=factorized_dim), latents, latents, got=shift
    )
    assert (found.num_differing, found.num_unexplained) == (1, 1)
