# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from musiclm_jax.export.pytorch import convolution

KINDS = {
  'dilated': lambda: convolution.CausalConv1d(3, 5, 7, dilation=3),
  'strided': lambda: convolution.CausalConv1d(3, 5, 6, stride=3),
  'plain': lambda: convolution.CausalConv1d(3, 5, 1),
  'transposed': lambda: convolution.CausalConvTranspose1d(3, 5, 6, stride=3),
  'transposed, three strides': lambda: convolution.CausalConvTranspose1d(
    3, 5, 6, stride=2
  ),
}


@pytest.fixture(params=KINDS)
def layer(request):
  torch.manual_seed(0)
  made = KINDS[request.param]()
  with torch.no_grad():
    made.bias.normal_()
    made.weight_g.mul_(1.3)
  return made


def inputs(time=24):
  return torch.randn(2, 3, time, generator=torch.Generator().manual_seed(1))


def test_nothing_of_the_future_is_seen(layer):
  whole = layer(inputs())
  changed = inputs()
  changed[..., 12:] += 1
  cut = layer(changed)
  half = whole.shape[-1] // 2
  assert torch.equal(whole[..., :half], cut[..., :half])
  assert not torch.allclose(whole[..., half:], cut[..., half:])


def test_pieces_are_the_whole(layer):
  parts, state = [], None
  for piece in inputs().split([3, 6, 3, 12], dim=-1):
    past = convolution.Past(state)
    parts.append(layer(piece, past))
    state = past.kept
  torch.testing.assert_close(torch.cat(parts, dim=-1), layer(inputs()))


def test_the_kernel_has_the_norms_that_are_stored(layer):
  axes = tuple(range(3))
  out = 1 if 'Transpose' in type(layer).__name__ else 0
  others = tuple(axis for axis in axes if axis != out)
  norms = layer.kernel(torch.float32).square().sum(dim=others).sqrt()
  torch.testing.assert_close(norms, layer.weight_g.flatten())


def test_a_folded_kernel_makes_the_same(layer):
  before = layer(inputs())
  layer.fold_weight_norm()
  assert set(layer.state_dict()) == {'weight', 'bias'}
  assert torch.equal(layer(inputs()), before)


def test_half_precision_is_close(layer):
  wanted = layer(inputs())
  made = layer.to(torch.bfloat16)(inputs().to(torch.bfloat16))
  assert made.dtype == torch.bfloat16
  torch.testing.assert_close(made.float(), wanted, atol=0.05, rtol=0.05)
