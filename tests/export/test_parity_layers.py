# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from flax import linen as nn

from musiclm_jax.export import parity, parity_layers
from musiclm_jax.layers import dense

FRAMES = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
WEIGHTS = {
  name: {'kernel': np.random.default_rng(seed).normal(size=(3, 3))}
  for seed, name in enumerate(('first', 'second'))
}


class Pair(nn.Module):
  @nn.compact
  def __call__(self, frames):
    for name in ('first', 'second'):
      frames = dense.DenseGeneral(features=(3,), axes=(None, None), name=name)(
        frames
      )
    return frames


class TorchPair(torch.nn.Module):
  def __init__(self, names):
    super().__init__()
    for name in names:
      module = torch.nn.Linear(3, 3, bias=False)
      kernel = WEIGHTS.get(name, WEIGHTS['first'])['kernel']
      module.weight.data = torch.from_numpy(kernel).float()
      setattr(self, name, module)

  def forward(self, frames):
    for module in self.children():
      frames = module(frames)
    return frames


def compare(model, **options):
  ours = parity_layers.run_linen(
    Pair(), {'params': WEIGHTS}, FRAMES, method='__call__'
  )
  with parity_layers.capture_torch(model) as theirs, torch.no_grad():
    model(torch.from_numpy(FRAMES))
  sheet = parity.Sheet(clips='', fingerprints={})
  parity_layers.compare(
    sheet,
    'pair',
    kind='stage',
    variables={'params': WEIGHTS},
    wanted=ours.layers,
    model=model,
    got=theirs,
    **options,
  )
  return {check.name: check.passed for check in sheet.checks}


def test_every_layer_is_compared_under_its_name():
  made = compare(TorchPair(['first', 'second']))
  assert made == {'first': True, 'second': True}


def test_the_layer_that_is_wrong_is_found():
  model = TorchPair(['first', 'second'])
  model.second.weight.data[0, 0] += 1e-2
  assert compare(model) == {'first': True, 'second': False}


@pytest.mark.parametrize(
  ('names', 'lonely'), [(['first'], 'second'), (['first', 'second', 'z'], 'z')]
)
def test_a_layer_on_one_side_alone_is_an_error(names, lonely):
  with pytest.raises(ValueError, match=rf"\['{lonely}'\] ran in JAX or in"):
    compare(TorchPair(names))


def test_what_is_compared_elsewhere_may_be_alone():
  made = compare(
    TorchPair(['first', 'second', 'z']), compared_elsewhere=frozenset({'z'})
  )
  assert made == {'first': True, 'second': True}
