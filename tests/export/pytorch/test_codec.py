# SPDX-License-Identifier: Apache-2.0
"""That it is JAX's codec is in the parity sheet of the fixture."""

import itertools

import numpy as np
import pytest
import torch

from musiclm_jax.export.pytorch.codec import Codec

CODES = torch.randint(
  0, 17, (2, 31, 3), generator=torch.Generator().manual_seed(0)
)
HOP = 6


@pytest.fixture(scope='module')
def codec(exported_codec):
  return Codec.from_pretrained(exported_codec[0] / 'codec')


def clip(num_samples=31 * HOP):
  samples = np.random.default_rng(0).normal(0, 0.3, (2, 32 * HOP))
  return torch.from_numpy(samples).float()[:, :num_samples]


def test_every_figure_of_the_sheet_has_a_bound_that_holds(exported_codec):
  _, sheet = exported_codec
  assert all(check.bound and check.passed for check in sheet.checks)
  names = {check.name for check in sheet.checks}
  assert {'encoder.blocks.1.dilated.9', 'decoder.blocks.0.up'} < names
  assert len(names) > 40


def test_any_pieces_joined_are_the_whole(codec):
  whole = codec.decode(CODES)
  for sizes in ([31], [1] * 31, [2, 17, 12]):
    parts = list(codec.decode_pieces(CODES.split(sizes, dim=1)))
    assert [part.shape[1] for part in parts] == [HOP * size for size in sizes]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_long_clips_are_read_and_made_in_chunks(codec, monkeypatch):
  codes, waveform = codec.encode(clip()), codec.decode(CODES)
  monkeypatch.setattr('musiclm_jax.export.pytorch.codec._CHUNK_FRAMES', 7)
  assert torch.equal(codec.encode(clip()), codes)
  torch.testing.assert_close(codec.decode(CODES), waveform)


def test_the_last_frame_is_filled_with_silence(codec):
  codes = codec.encode(clip(31 * HOP + 2))
  assert codes.shape == (2, 32, 3)
  assert codes.dtype == torch.int64
  assert torch.equal(codes[:, :31], codec.encode(clip()))


def test_fewer_levels_are_the_first_ones(codec):
  codes = codec.encode(clip())
  assert torch.equal(codec.encode(clip(), num_levels=2), codes[..., :2])
  coarse, fine = (codec.decode(CODES[..., :n]) for n in (1, 3))
  assert coarse.shape == fine.shape
  assert not torch.allclose(coarse, fine)


def test_a_gradient_reaches_every_weight(exported_codec):
  codec = Codec.from_pretrained(exported_codec[0] / 'codec')
  codec(clip()).square().mean().backward()
  gradients = [parameter.grad for parameter in codec.parameters()]
  assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_half_precision_keeps_the_codebooks(exported_codec):
  half = Codec.from_pretrained(
    exported_codec[0] / 'codec', dtype=torch.bfloat16
  )
  assert half.encoder.first.bias.dtype == torch.bfloat16
  assert half.quantizer.embeddings.dtype == torch.float32
  waveform = half.decode(half.encode(clip()))
  assert waveform.dtype == torch.float32
  assert waveform.isfinite().all()


def test_folded_weights_make_the_same(exported_codec):
  codec = Codec.from_pretrained(exported_codec[0] / 'codec')
  before = codec.decode(CODES)
  assert torch.equal(codec.fold_weight_norm().decode(CODES), before)
  assert not [name for name in codec.state_dict() if name.endswith('weight_g')]


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda codec: codec.encode(clip()[0]), r'\[batch, samples\], not \[186\]'),
    (lambda codec: codec.encode(CODES[..., 0]), 'finite floats .* torch.int64'),
    (lambda codec: codec.encode(clip() * torch.nan), 'NaN or infinity'),
    (lambda codec: codec.encode(clip(), num_levels=4), '3 levels, not 4'),
    (lambda codec: codec.encode(clip(), num_levels=0), '3 levels, not 0'),
    (
      lambda codec: codec.decode(CODES + 1),
      r'1 to 17 are not within \[0, 17\)',
    ),
    (lambda codec: codec.decode(CODES[0]), 'Codes are whole numbers'),
    (lambda codec: codec.decode(CODES.float()), 'not torch.float32'),
  ],
)
def test_what_is_neither_audio_nor_codes_is_named(codec, call, message):
  with pytest.raises(ValueError, match=message):
    call(codec)


def test_pieces_are_made_as_they_come(codec):
  endless = itertools.repeat(CODES[:, :2])
  made = codec.decode_pieces(endless)
  assert [next(made).shape for _ in range(3)] == [(2, 2 * HOP)] * 3
