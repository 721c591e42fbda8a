# SPDX-License-Identifier: Apache-2.0
"""Beside the authors' network and front end with the same, random, weights."""

import importlib
import math
import sys
import types

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from musiclm_jax.evaluation.embedders import base, passt

EMBED_DIM, NUM_CLASSES = 128, 17


@pytest.fixture(scope='module')
def authors():
  """Their modules, without what they would fetch weights with (timm) or draw
  masks with (torchaudio); Kaldi's filters are by hand."""

  def module(name, **members):
    found = types.ModuleType(name)
    vars(found).update(members)
    return found

  kaldi = module('torchaudio.compliance.kaldi', get_mel_banks=_filters_by_hand)
  stand_ins = {
    'timm': module('timm'),
    'timm.models': module('timm.models'),
    'timm.models._hub': module('timm.models._hub', download_cached_file=None),
    'torchaudio': module(
      'torchaudio',
      compliance=module('torchaudio.compliance', kaldi=kaldi),
    ),
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, stand_in in stand_ins.items():
      patch.setitem(sys.modules, name, stand_in)
    yield types.SimpleNamespace(
      network=importlib.import_module('hear21passt.models.passt'),
      front=importlib.import_module('hear21passt.models.preprocess'),
    )


def _filters_by_hand(
  num_bins,
  fft_samples,
  sample_rate_hz,
  low_hz,
  high_hz,
  *,
  vtln_warp_factor,
  **_,
):
  """Filter by filter and bin by bin, in float64; the last bin is left out."""
  assert vtln_warp_factor == 1

  def mel(hertz):
    return 1127 * math.log(1 + hertz / 700)

  step = (mel(high_hz) - mel(low_hz)) / (num_bins + 1)
  filters = np.zeros((num_bins, fft_samples // 2))
  for number in range(num_bins):
    left = mel(low_hz) + number * step
    for place in range(fft_samples // 2):
      at = (mel(place * sample_rate_hz / fft_samples) - left) / step
      filters[number, place] = max(0.0, min(at, 2 - at))
  return torch.tensor(filters, dtype=torch.float32), None


@pytest.fixture(scope='module')
def network(authors):
  torch.manual_seed(0)
  made = authors.network.PaSST(
    stride=10,
    num_classes=NUM_CLASSES,
    embed_dim=EMBED_DIM,
    depth=2,
    num_heads=EMBED_DIM // 64,
    distilled=True,
    u_patchout=7,  # Of training alone.
  )
  with torch.no_grad():  # As made, biases are 0 and all logits nearly equal.
    for parameter in made.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return made.eval()


@pytest.fixture(scope='module')
def ear(network, tmp_path_factory):
  path = tmp_path_factory.mktemp('passt') / 'passt.pt'
  torch.save(network.state_dict(), path)
  return passt.load(path)


def _clip(seconds):
  time = np.arange(round(seconds * passt.SAMPLE_RATE_HZ)) / passt.SAMPLE_RATE_HZ
  draw = np.random.default_rng(0)
  waveform = 0.3 * np.sin(2 * np.pi * 523 * time * (1 + time / 7))
  waveform += 0.01 * draw.standard_normal(time.size)
  return waveform.astype(np.float32)


@pytest.fixture(scope='module')
def front(authors):
  return authors.front.AugmentMelSTFT(
    n_mels=128,
    sr=32_000,
    win_length=800,
    hopsize=320,
    n_fft=1024,
    freqm=0,
    timem=0,
    fmin=0.0,
    fmax=None,
    fmin_aug_range=10,
    fmax_aug_range=2_000,
  ).eval()


def _compare(found, ear, network, mel):
  """Embeddings and classes of a mel spectrogram beside the authors'."""
  with torch.no_grad():
    logits, wanted = network(torch.tensor(mel)[:, None])
    likely = torch.softmax(logits.double(), dim=-1).numpy()
  np.testing.assert_allclose(found, wanted.numpy(), atol=2e-4)
  assert np.abs(found[0] - found[1]).max() > 0.01
  np.testing.assert_allclose(ear.probabilities(found), likely, rtol=1e-3)
  assert np.ptp(likely) > 0.01


def test_mel_spectra_are_those_of_the_authors_front_end(front):
  windows = _clip(2).reshape(2, -1)
  wanted = front(torch.tensor(windows)).numpy()
  found = passt.log_mel(windows)
  assert found.shape == (2, 128, 100) and np.ptp(wanted) > 2
  np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_network_is_that_of_the_authors(ear, network):
  draw = np.random.default_rng(0)
  mel = draw.normal(size=(2, 128, 53)).astype(np.float32)
  weights = {k: v.numpy() for k, v in network.state_dict().items()}
  found = np.asarray(jax.jit(passt.embed_mel)(weights, mel))
  assert found.shape == (2, EMBED_DIM) == (2, ear.dim)
  _compare(found, ear, network, mel)
  assert isinstance(ear, base.Classifier)
  assert len(ear.classes) == NUM_CLASSES and ear.classes[3] == 'AudioSet 3'


@pytest.mark.slow
def test_a_clip_is_heard_in_windows_of_ten_seconds(ear, front, network):
  found = ear.embed(_clip(23.1))  # What is over is not heard.
  mel = front(
    torch.tensor(_clip(23.1)[: 2 * passt.WINDOW_SAMPLES].reshape(2, -1))
  )
  assert found.shape == (2, EMBED_DIM) and mel.shape == (2, 128, 1_000)
  _compare(found, ear, network, mel.numpy())


def test_both_kinds_of_file_give_the_same_weights(network, ear, tmp_path):
  safetensors.numpy.save_file(
    {name: tensor.numpy() for name, tensor in network.state_dict().items()},
    tmp_path / 'passt.safetensors',
  )
  other = passt.load(tmp_path / 'passt.safetensors')
  assert other.weights_sha256 != ear.weights_sha256  # Of the files.
  rows = np.random.default_rng(0).normal(size=(3, EMBED_DIM)).astype(np.float32)
  np.testing.assert_array_equal(
    other.probabilities(rows), ear.probabilities(rows)
  )


def test_the_network_of_the_paper_has_its_shapes(network):
  sizes = {EMBED_DIM: 768, 3 * EMBED_DIM: 2_304, 4 * EMBED_DIM: 3_072}
  sizes[NUM_CLASSES] = 527
  weights = {}
  for name, tensor in network.state_dict().items():
    shape = tuple(sizes.get(size, size) for size in tensor.shape)
    names = [name]
    if name.startswith('blocks.1.'):
      names = [name.replace('1', str(layer), 1) for layer in range(1, 12)]
    weights |= dict.fromkeys(names, jax.ShapeDtypeStruct(shape, np.float32))
  assert passt.num_layers_of(weights) == 12
  mel = jax.ShapeDtypeStruct((2, 128, 1_000), np.float32)
  assert jax.eval_shape(passt.embed_mel, weights, mel).shape == (2, 768)
  assert sum(math.prod(w.shape) for w in weights.values()) == 86_153_758


def test_another_file_is_refused(network, tmp_path):
  weights = dict(network.state_dict())
  del weights['blocks.1.attn.qkv.bias']
  torch.save(weights, tmp_path / 'part.pt')
  with pytest.raises(ValueError, match="no 'blocks.1.attn.qkv.bias', which a"):
    passt.load(tmp_path / 'part.pt')
  with pytest.raises(ValueError, match='is no file; name the weights of PaSST'):
    passt.load(tmp_path / 'absent.pt')
