# SPDX-License-Identifier: Apache-2.0
"""Both towers beside JAX's, windows, texts and codes."""

import numpy as np
import pytest
import torch

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export.pytorch import MuLan
from musiclm_jax.mulan import resnet
from tests.export import whole
from tests.mulan import toys

BODIES = {
  'patches': None,
  'convolutions': resnet.ResNetConfig(blocks=(1, 2), channels=4, num_groups=2),
}


@pytest.fixture(scope='module', params=BODIES)
def pair(request, tmp_path_factory):
  folder = whole.export_component(
    whole.conditioner(body=BODIES[request.param]),
    tmp_path_factory.mktemp(request.param),
  )
  found = bundle.load(folder.parent / 'bundle')
  conditioner = found.config.make_conditioner(
    found.weights, stream=found.stream_out
  )
  return conditioner, MuLan.from_pretrained(folder)


def clips(num_samples):
  draws = np.random.default_rng(7)
  return (0.3 * draws.normal(size=(3, num_samples))).astype(np.float32)


@pytest.mark.parametrize(
  'num_samples', [3 * toys.SAMPLES + 17, toys.SAMPLES // 3]
)
def test_clips_are_embedded_as_in_jax(pair, num_samples):
  conditioner, exported = pair
  waveform = clips(num_samples)
  wanted = conditioner.embed_audio(waveform, sample_rate_hz=toys.RATE_HZ)
  found = exported.embed_audio(torch.from_numpy(waveform), toys.RATE_HZ)
  np.testing.assert_allclose(found, wanted, atol=2e-5)
  assert np.abs(wanted[0] - wanted[1]).max() > 1e-3  # The probe itself works.
  np.testing.assert_array_equal(
    exported.encode_audio(torch.from_numpy(waveform), toys.RATE_HZ),
    conditioner.quantize(wanted),
  )


def test_texts_are_embedded_as_in_jax(pair):
  conditioner, exported = pair
  texts = ['A LOW, dark tone', 'bright', 'unheard-of wörds; ' * 9]
  wanted = conditioner.embed_text(texts)
  np.testing.assert_allclose(exported.embed_text(texts), wanted, atol=2e-6)
  np.testing.assert_array_equal(
    exported.encode_text(texts), conditioner.encode_text(texts)
  )


def test_an_embedding_depends_on_no_other(exported):
  mulan = exported.mulan
  texts = list(toys.TEXTS[:19])
  together = mulan.embed_text(texts)
  assert torch.equal(together[17:], mulan.embed_text(texts[17:]))
  waveform = torch.from_numpy(clips(toys.SAMPLES))
  together = mulan.embed_audio(waveform, toys.RATE_HZ)
  assert torch.equal(
    together[1:2], mulan.embed_audio(waveform[1:2], toys.RATE_HZ)
  )


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda mulan: mulan.embed_text('a tone'), 'put a single'),
    (lambda mulan: mulan.embed_text([]), 'at least one text'),
    (lambda mulan: mulan.embed_text(['a', ' ']), r'\[1\] are empty'),
    (
      lambda mulan: mulan.embed_audio(torch.zeros(3), 16),
      r'\[batch, samples\]',
    ),
    (
      lambda mulan: mulan.embed_audio(torch.full((1, 2), torch.nan), 16),
      'finite floats',
    ),
    (lambda mulan: mulan.quantize(torch.zeros(2, 5)), r'\[batch, 8\]'),
  ],
)
def test_what_is_no_input_is_refused(exported, call, words):
  with pytest.raises(ValueError, match=words):
    call(exported.mulan)
