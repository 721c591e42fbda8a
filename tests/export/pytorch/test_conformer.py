# SPDX-License-Identifier: Apache-2.0
"""With T5's bias it is compared in the parity sheet; here, rotary embedding."""

import jax
import numpy as np
import pytest
import torch

from musiclm_jax.export import naming
from musiclm_jax.export.pytorch import conformer
from musiclm_jax.export.pytorch.configuration import Config
from musiclm_jax.layers import conformer as ours
from tests.export import toys

SIZES = {
  'num_heads': 2,
  'embed_dim': 12,
  'mlp_dim': 22,
  'kernel_size': 3,
  'position': 'rotary',
}
FRAMES = np.random.default_rng(0).normal(size=(2, 13, 12)).astype(np.float32)


@pytest.fixture(scope='module')
def pair():
  """Linen's module with its parameters, and PyTorch's with the same."""
  module = ours.Conformer(ours.ConformerConfig(**SIZES), 2)
  mask = np.ones(FRAMES.shape[:2], bool)
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), FRAMES, frame_mask=mask
  )
  params = toys.draw(shapes)['params']
  theirs = conformer.Conformer(Config(**SIZES), num_blocks=2)
  state = naming.to_state_dict({'params': params}, kind='semantic')
  theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
  return (module, params, mask), theirs


def test_with_rotary_embedding_it_is_that_of_jax(pair):
  (module, params, mask), theirs = pair
  wanted = jax.jit(module.apply)({'params': params}, FRAMES, frame_mask=mask)
  with torch.no_grad():
    made = theirs(torch.from_numpy(FRAMES))
  np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_positions_matter(pair):
  _, theirs = pair
  with torch.no_grad():
    made, turned = (
      theirs(frames)
      for frames in torch.from_numpy(np.stack([FRAMES, FRAMES[:, ::-1]]))
    )
  assert not torch.allclose(made, turned.flip(1), atol=1e-2)
