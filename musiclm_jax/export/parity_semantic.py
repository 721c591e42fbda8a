# SPDX-License-Identifier: Apache-2.0
"""A semantic tokenizer beside its export: layers, features, codes, long clips.

Shapes: waveform [batch, samples], features [batch, frames, embed], codes
[batch, frames].
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.export import parity, parity_codes, parity_layers
from musiclm_jax.export.clips import Clips
from musiclm_jax.export.pytorch.semantic import SemanticTokenizer
from musiclm_jax.semantic import tokenizer as tokenizers
from musiclm_jax.semantic.w2v_bert import W2vBert

# Layers are compared on one short window.
_LAYER_FRAMES = 75


def compare(
  sheet: parity.Sheet,
  component: str,
  *,
  found: Bundle,
  folder: pathlib.Path,
  clips: Clips,
) -> None:
  """Adds all checks of a tokenizer; a `parity.Comparison`."""
  exported = SemanticTokenizer.from_pretrained(folder)
  _compare_layers(sheet, component, found, exported, clips)
  _compare_whole(sheet, component, found, exported, clips)


def _compare_layers(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: SemanticTokenizer,
  clips: Clips,
) -> None:
  config, params = found.config, found.weights[tokenizers.PARAMS]
  waveform = clips.batch(
    sample_rate_hz=exported.sample_rate_hz,
    num_samples=_LAYER_FRAMES * exported.hop_samples,
  )
  ours = parity_layers.run_linen(
    W2vBert(config.model),
    {'params': params},
    waveform,
    np.ones(waveform.shape, bool),
    method=lambda module, waveform, sample_mask: module.features(
      waveform,
      sample_mask=sample_mask,
      num_mlm_blocks=config.num_mlm_blocks,
    ),
  )
  with parity_layers.capture_torch(exported) as theirs, torch.no_grad():
    exported(torch.from_numpy(waveform))
  parity_layers.compare(
    sheet,
    component,
    kind=found.kind,
    variables={'params': params},
    wanted=ours.layers,
    model=exported,
    got=theirs,
    # Part of the features, which are compared below.
    compared_elsewhere=frozenset({'scaler'}),
  )


def _compare_whole(
  sheet: parity.Sheet,
  component: str,
  found: Bundle,
  exported: SemanticTokenizer,
  clips: Clips,
) -> None:
  """As both are used: a clip of more than one window."""
  rate_hz = exported.sample_rate_hz
  seconds = found.config.window_seconds + 2 * found.config.margin_seconds + 1
  waveform = clips.batch(sample_rate_hz=rate_hz, num_samples=seconds * rate_hz)
  tokenizer = found.config.make_tokenizer(
    found.weights, stream=found.stream_out
  )
  theirs = torch.from_numpy(waveform)
  with parity.highest_precision():
    wanted = tokenizer.features(waveform, sample_rate_hz=rate_hz)
    codes = tokenizer.encode(waveform, sample_rate_hz=rate_hz)
  made = exported.features(theirs, rate_hz).numpy()
  got = exported.encode(theirs, rate_hz).numpy()
  sheet.values(
    component,
    'scaled features of a long clip',
    wanted=wanted,
    got=made,
    relative=parity.LAYER_BOUND,
  )
  dim = wanted.shape[-1]
  flips = parity_codes.nearest_flips(
    wanted.reshape(-1, dim),
    made.reshape(-1, dim),
    centroids=np.asarray(found.weights[tokenizers.CENTROIDS]),
    wanted=codes.reshape(-1),
    got=got.reshape(-1),
  )
  sheet.codes(
    component,
    'codes of a long clip',
    wanted=codes,
    got=got,
    num_unexplained=flips.num_unexplained,
    note=flips.note,
  )
