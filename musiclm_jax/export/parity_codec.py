# SPDX-License-Identifier: Apache-2.0
"""A codec beside its export: layers, codes, waveform, and waveform in pieces.

Shapes: waveform [batch, samples], codes [batch, frames, levels].
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import torch

from musiclm_jax.array_types import Codes, Waveform
from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.codec.soundstream import SoundStream
from musiclm_jax.export import parity, parity_codes, parity_layers
from musiclm_jax.export.clips import Clips
from musiclm_jax.export.pytorch.codec import Codec

# Layers are compared on the beginning; what is made of the whole, on more than
# the exported codec reads at once.
_LAYER_FRAMES = 100
_WHOLE_FRAMES = 570
_PIECES = (1, 7, 50)
_NUM_ROWS = 2  # of random codes, where there is no encoder
# A flip of one level changes those after it. Seams have a check of their own.
_LEAST_SHARE = 0.99


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  found: Bundle,
  folder: pathlib.Path,
  clips: Clips,
) -> None:
  """Adds all checks of a codec; a `parity.Comparison`."""
  exported = Codec.from_pretrained(folder)
  if exported.encoder is None:  # A copy that only decodes.
    codes = _random_codes(exported)
    some = codes[:, :_LAYER_FRAMES]
  else:
    some = _compare_encoder(sheet, component, found, exported, clips)
    codes = _compare_whole_codes(sheet, component, found, exported, clips)
  _compare_decoder(sheet, component, found, exported, some)
  _compare_whole_waveforms(sheet, component, found, exported, codes)


def _random_codes(exported: Codec) -> Codes:
  shape = _NUM_ROWS, _WHOLE_FRAMES, exported.num_levels
  draws = np.random.default_rng(0)
  return draws.integers(exported.codebook_size, size=shape)


def _compare_encoder(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: Codec,
  clips: Clips,
) -> Codes:
  """Gives JAX's codes back."""
  waveform = clips.batch(
    sample_rate_hz=exported.sample_rate_hz,
    num_samples=_LAYER_FRAMES * exported.hop_samples,
  )
  ours = parity_layers.run_linen(
    SoundStream(found.config), found.weights, waveform, method='encode'
  )
  with parity_layers.capture_torch(exported) as theirs:
    made, _ = exported.encode_chunk(torch.from_numpy(waveform))
  parity_layers.compare(
    sheet,
    component,
    kind=found.kind,
    variables=found.weights,
    wanted=ours.layers,
    model=exported,
    got=theirs,
  )
  wanted, got = np.array(ours.result), made.numpy()
  latents = [layers['encoder'] for layers in (ours.layers, theirs)]
  _compare_codes(
    sheet, component, 'codes', found, latents=latents, codes=(wanted, got)
  )
  return wanted


def _compare_codes(
  sheet: parity.Sheet,
  component: str,
  name: str,
  found: Bundle,
  *,
  latents: Sequence[np.ndarray],
  codes: Sequence[np.ndarray],
) -> None:
  """Codes that may differ where the latents of both explain it."""
  wanted, got = codes
  levels, dim = wanted.shape[-1], latents[0].shape[-1]
  flips = parity_codes.residual_flips(
    *(made.reshape(-1, dim) for made in latents),
    quantizer=found.weights['codebooks']['quantizer']
    | found.weights['params'].get('quantizer', {}),
    wanted=wanted.reshape(-1, levels),
    got=got.reshape(-1, levels),
  )
  sheet.codes(
    component,
    name,
    wanted=wanted,
    got=got,
    num_unexplained=flips.num_unexplained,
    note=flips.note,
  )


def _compare_seams(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: Codec,
  waveform: Waveform,
) -> None:
  """PyTorch's codes chunk by chunk, as `encode` reads, beside one pass.

  Latents too: a seam that moved them would explain the codes that it changes.
  """
  missing = -waveform.shape[1] % exported.hop_samples
  padded = torch.from_numpy(np.pad(waveform, ((0, 0), (0, missing))))
  latents, codes = [], []
  for encode in (
    lambda: exported.encode_chunk(padded)[0],
    lambda: exported.encode(padded),
  ):
    parts: list[torch.Tensor] = []
    handle = exported.encoder.register_forward_hook(
      lambda module, inputs, output, parts=parts: parts.append(output)
    )
    try:
      with torch.no_grad():
        codes.append(encode().numpy())
    finally:
      handle.remove()
    latents.append(torch.cat(parts, dim=1).numpy())
  sheet.values(
    component,
    'latents in chunks',
    wanted=latents[0],
    got=latents[1],
    relative=parity.LAYER_BOUND,
  )
  _compare_codes(
    sheet, component, 'codes in chunks', found, latents=latents, codes=codes
  )


def _compare_decoder(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: Codec,
  codes: Codes,
) -> None:
  ours = parity_layers.run_linen(
    SoundStream(found.config), found.weights, codes, method='decode'
  )
  with parity_layers.capture_torch(exported) as theirs, torch.no_grad():
    made, _ = exported.decode_chunk(torch.from_numpy(codes).long())
  parity_layers.compare(
    sheet,
    component,
    kind=found.kind,
    variables=found.weights,
    wanted=ours.layers,
    model=exported,
    got=theirs,
  )
  sheet.values(
    component,
    'waveform of JAX’s codes',
    wanted=ours.result,
    got=made.numpy(),
    absolute=parity.WAVEFORM_BOUND,
  )


def _compare_whole_codes(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: Codec,
  clips: Clips,
) -> Codes:
  """As both are used: a longer clip, read chunk by chunk; gives JAX's codes."""
  rate_hz = exported.sample_rate_hz
  # Not whole hops: the last one is filled up.
  num_samples = _WHOLE_FRAMES * exported.hop_samples - 1
  waveform = clips.batch(sample_rate_hz=rate_hz, num_samples=num_samples)
  codec = found.config.make_codec(found.weights, stream=found.stream_out)
  with parity.highest_precision():
    codes = codec.encode(waveform, sample_rate_hz=rate_hz)
  sheet.codes(
    component,
    'codes of a whole clip',
    wanted=codes,
    got=exported.encode(torch.from_numpy(waveform)).numpy(),
    least_share=_LEAST_SHARE,
  )
  _compare_seams(sheet, component, found, exported, waveform)
  return codes


def _compare_whole_waveforms(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: Codec,
  codes: Codes,
) -> None:
  """Likewise made chunk by chunk."""
  codec = found.config.make_codec(found.weights, stream=found.stream_out)
  with parity.highest_precision():
    wanted = codec.decode(codes)
  theirs = torch.from_numpy(codes).long()
  pieces = _cut(theirs)
  for name, made in (
    ('waveform of a whole clip', exported.decode(theirs)),
    (
      'waveform in pieces',
      torch.cat(list(exported.decode_pieces(pieces)), dim=1),
    ),
  ):
    sheet.values(
      component,
      name,
      wanted=wanted,
      got=made.numpy(),
      absolute=parity.WAVEFORM_BOUND,
    )


def _cut(codes: torch.Tensor) -> tuple[torch.Tensor, ...]:
  """Pieces of several lengths, the last of what is left."""
  rest = codes.shape[1] - sum(_PIECES)
  return codes.split([*_PIECES, rest], dim=1)
