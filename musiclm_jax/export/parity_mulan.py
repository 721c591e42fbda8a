# SPDX-License-Identifier: Apache-2.0
"""A MuLan conditioner beside its export: layers, embeddings, codes.

Shapes: waveform [batch, samples], tokens [batch, length], embeddings [batch,
embed], codes [batch, 1, levels].
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from jaxtyping import Float

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.conditioning import mulan as conditioning
from musiclm_jax.export import parity, parity_codes, parity_layers
from musiclm_jax.export.clips import Clips
from musiclm_jax.export.pytorch.mulan import MuLan
from musiclm_jax.mulan.model import Mulan

EMBEDDING_BOUND = 1e-4

# What music is asked for with: short, long, with signs and with capitals.
TEXTS = (
  'slow piano waltz',
  'A fast reel (120 bpm), played loudly by accordion & fiddle!',
  'Melodic techno with a warm bass line. Suddenly, the drums drop out and a'
  ' choir sings a long, sad melody over strings; then the beat returns.',
)

# More than one window of a clip, and not whole hops.
_MORE_SECONDS = 2.3


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  found: Bundle,
  folder: pathlib.Path,
  clips: Clips,
) -> None:
  """Adds all checks of a conditioner; a `parity.Comparison`."""
  exported = MuLan.from_pretrained(folder)
  _compare_layers(sheet, component, found, exported, clips)
  conditioner = found.config.make_conditioner(
    found.weights, stream=found.stream_out
  )
  rate_hz, window = exported.sample_rate_hz, exported.window_samples
  for about, num_samples in (
    ('clips', window + int(_MORE_SECONDS * rate_hz)),
    ('clips shorter than a window', window // 3),
  ):
    waveform = clips.batch(sample_rate_hz=rate_hz, num_samples=num_samples)
    with parity.highest_precision():
      wanted = conditioner.embed_audio(waveform, sample_rate_hz=rate_hz)
    got = exported.embed_audio(torch.from_numpy(waveform), rate_hz)
    _compare_points(
      sheet, component, about, found, conditioner, exported, wanted, got
    )
  with parity.highest_precision():
    wanted = conditioner.embed_text(TEXTS)
  got = exported.embed_text(TEXTS)
  _compare_points(
    sheet, component, 'texts', found, conditioner, exported, wanted, got
  )


def _compare_layers(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: MuLan,
  clips: Clips,
) -> None:
  """Both towers; a part of the audio is padding, and so are ends of texts."""
  config = found.config.towers
  waveform = clips.batch(
    sample_rate_hz=config.sample_rate_hz, num_samples=config.window_samples
  )
  sample_mask = np.ones(waveform.shape, bool)
  sample_mask[-1, -(config.window_samples // 4) :] = False
  tokens, token_mask = config.text.vocabulary(
    TEXTS, num_tokens=config.max_tokens
  )
  variables = found.weights[conditioning.TOWERS]
  ours = parity_layers.run_linen(
    Mulan(config),
    variables,
    waveform,
    sample_mask,
    tokens,
    token_mask,
    # There are not as many clips as texts.
    method=lambda module, waveform, sample_mask, tokens, token_mask: (
      module.embed_audio(waveform, sample_mask),
      module.embed_text(tokens, token_mask),
    ),
  )
  with parity_layers.capture_torch(exported) as theirs, torch.no_grad():
    exported.audio(
      torch.from_numpy(waveform), sample_mask=torch.from_numpy(sample_mask)
    )
    exported.text(
      torch.from_numpy(tokens).long(), token_mask=torch.from_numpy(token_mask)
    )
  parity_layers.compare(
    sheet,
    component,
    kind=found.kind,
    variables=variables,
    wanted=ours.layers,
    model=exported,
    got=theirs,
    # A table of a module there, and a module here.
    compared_elsewhere=frozenset({'text.bert.words'}),
  )


def _compare_points(
  sheet: parity.Sheet,
  component: str,
  about: str,
  found: Bundle,
  conditioner: conditioning.MuLanConditioner,
  exported: MuLan,
  wanted: Float[np.ndarray, 'batch embed'],
  made: torch.Tensor,
) -> None:
  """Embeddings, and each side's codes of its own."""
  got = made.numpy()
  sheet.values(
    component,
    f'embeddings of {about}',
    wanted=wanted,
    got=got,
    absolute=EMBEDDING_BOUND,
  )
  with parity.highest_precision():
    codes = conditioner.quantize(wanted)
  theirs = exported.quantize(made).numpy()
  quantizer = found.weights[conditioning.QUANTIZER]
  flips = parity_codes.residual_flips(
    wanted,
    got,
    quantizer=quantizer['codebooks'] | quantizer.get('params', {}),
    wanted=codes[:, 0],
    got=theirs[:, 0],
  )
  sheet.codes(
    component,
    f'codes of {about}',
    wanted=codes,
    got=theirs,
    num_unexplained=flips.num_unexplained,
    note=flips.note,
  )
