# SPDX-License-Identifier: Apache-2.0
"""Beside the network in PyTorch with the same, random, weights."""

import math

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from musiclm_jax.evaluation.embedders import vggish


class InTorch(torch.nn.Module):
  """The layers and names of the common ports; `widths` of 64 to 4096."""

  def __init__(self, widths: tuple[int, ...], hidden: int, dim: int):
    super().__init__()
    layers, before = [], 1
    for width in widths:
      if width:
        conv = torch.nn.Conv2d(before, width, kernel_size=3, padding=1)
        layers += [conv, torch.nn.ReLU()]
        before = width
      else:
        layers.append(torch.nn.MaxPool2d(2, 2))
    self.features = torch.nn.Sequential(*layers)
    sizes = (before * 6 * 4, hidden, hidden, dim)
    dense = [
      layer
      for size, following in zip(sizes, sizes[1:])
      for layer in (torch.nn.Linear(size, following), torch.nn.ReLU())
    ]
    self.embeddings = torch.nn.Sequential(*dense)

  def forward(self, mel: torch.Tensor) -> torch.Tensor:
    maps = self.features(mel[:, None])
    return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


@pytest.fixture(scope='module')
def network() -> InTorch:
  torch.manual_seed(0)
  # Narrow: 0 stands for keeping the greatest of 2 x 2.
  return InTorch((3, 0, 5, 0, 7, 7, 0, 11, 11, 0), hidden=13, dim=17).eval()


def _windows(count: int) -> np.ndarray:
  """Tones over a little noise: samples of `count` windows."""
  samples = vggish.WINDOW_FRAMES * 160
  seconds = np.arange(count * samples + 240) / vggish.SAMPLE_RATE_HZ
  draw = np.random.default_rng(0)
  waveform = 0.3 * np.sin(2 * np.pi * 523 * seconds * (1 + seconds))
  waveform += 0.01 * draw.standard_normal(waveform.size)
  return waveform.astype(np.float32)


def _mel(hertz: float) -> float:
  return 1127 * math.log(1 + hertz / 700)


def _log_mel_by_hand(waveform: np.ndarray) -> np.ndarray:
  """Frame by frame and filter by filter, in float64."""
  step = (_mel(7_500) - _mel(125)) / 65
  filters = np.zeros((257, 64))
  for place in range(1, 257):
    at = (_mel(place * 16_000 / 512) - _mel(125)) / step
    for number in range(64):
      filters[place, number] = max(0.0, 1 - abs(at - number - 1))
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
  rows = [
    np.abs(np.fft.rfft(waveform[start : start + 400] * hann, 512)) @ filters
    for start in range(0, waveform.size - 399, 160)
  ]
  return np.log(np.array(rows) + 0.01)


def test_embeddings_are_those_of_pytorch(network, tmp_path):
  path = tmp_path / 'vggish.pth'
  torch.save(network.state_dict(), path)
  ear = vggish.load(path)
  waveform = _windows(3)
  mel = _log_mel_by_hand(waveform).reshape(3, 96, 64)
  with torch.no_grad():
    wanted = network(torch.tensor(mel, dtype=torch.float32)).numpy()
  assert np.count_nonzero(np.ptp(wanted, axis=0) > 1e-4) > 3
  found = ear.embed(waveform)
  assert found.shape == (3, 17) == (3, ear.dim)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_at_full_size_it_is_the_network_of_the_published_package(tmp_path):
  published = pytest.importorskip(
    'torchvggish', reason='is in requirements-no-deps.txt'
  )
  torch.manual_seed(1)
  network = published.torchvggish._vgg(postprocess=False).eval()  # Untrained.
  for layer in network.modules():
    if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
      # As loud after seventeen layers as before them.
      torch.nn.init.kaiming_normal_(layer.weight)
      torch.nn.init.normal_(layer.bias, std=0.1)
  torch.save(network.state_dict(), tmp_path / 'vggish.pth')
  waveform = _windows(2)
  examples = published.waveform_to_examples(
    waveform.astype(np.float64), vggish.SAMPLE_RATE_HZ
  )
  with torch.no_grad():
    wanted = network(examples).numpy()
  found = vggish.load(tmp_path / 'vggish.pth').embed(waveform)
  assert found.shape == wanted.shape == (2, 128)
  scale = np.abs(wanted).max()
  assert np.ptp(wanted, axis=0).max() > 0.1 * scale
  np.testing.assert_allclose(found, wanted, atol=1e-4 * scale)


def test_both_kinds_of_file_give_the_same_weights(network, tmp_path):
  torch.save(network.state_dict(), tmp_path / 'a.pth')
  safetensors.numpy.save_file(
    {name: tensor.numpy() for name, tensor in network.state_dict().items()},
    tmp_path / 'a.safetensors',
  )
  first, second = (
    vggish.load(tmp_path / f'a.{s}') for s in ('pth', 'safetensors')
  )
  assert first.dim == second.dim == 17
  assert first.weights_sha256 != second.weights_sha256  # Of the files.


def test_log_mel_is_that_of_the_release():
  waveform = _windows(1)
  found = vggish.log_mel(waveform[None])[0]
  np.testing.assert_allclose(found, _log_mel_by_hand(waveform), atol=2e-4)


def test_the_network_of_the_paper_has_its_shapes():
  with torch.device('meta'):  # Shapes without memory.
    network = InTorch(
      (64, 0, 128, 0, 256, 256, 0, 512, 512, 0), hidden=4_096, dim=128
    )
  weights = {
    name: jax.ShapeDtypeStruct(tuple(tensor.shape), np.float32)
    for name, tensor in network.state_dict().items()
  }
  mel = jax.ShapeDtypeStruct((2, 96, 64), np.float32)
  assert jax.eval_shape(vggish.embed_mel, weights, mel).shape == (2, 128)
  assert sum(math.prod(w.shape) for w in weights.values()) == 72_141_184


def test_another_file_is_refused(tmp_path):
  torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / 'other.pth')
  with pytest.raises(ValueError, match="no 'features.0.weight'"):
    vggish.load(tmp_path / 'other.pth')
  with pytest.raises(ValueError, match='is no file'):
    vggish.load(tmp_path / 'absent.pth')
