# SPDX-License-Identifier: Apache-2.0
"""A whole model beside its export: rows of real clips, and music.

Clips are encoded by JAX's tokenizers, and every stage reads rows of their codes
on both sides. Then both make the same pieces from the same seeds, sampled as
the model states.

Shapes: codes [batch, frames, levels].
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.export import parity, parity_stages
from musiclm_jax.export.clips import Clips
from musiclm_jax.export.parity_mulan import TEXTS
from musiclm_jax.export.pytorch.music_lm import MusicLM as TorchMusicLM
from musiclm_jax.inference import assembly, cascade, music_lm
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig

COMPONENT = 'music_lm'

_SECONDS = 1
_NUM_SAMPLES = 2
_PROMPTS = TEXTS[:2]


def compare(
  sheet: parity.Sheet,
  *,
  bundles: Mapping[str, Bundle],
  sampling: SamplingConfig,
  directory: pathlib.Path,
  clips: Clips,
) -> None:
  """Adds all checks of a whole model.

  Args:
    sheet: Where to.
    bundles: All of the model, by their place in the folder, as
      `reference.plain` gives them.
    sampling: How the model wants to be sampled.
    directory: The exported folder.
    clips: What the stages' rows are made of.
  """
  model = _load(bundles, sampling=sampling)
  exported = TorchMusicLM.from_pretrained(directory)
  # Without tokenizers no rows are made of clips; those of random codes stay.
  reads_clips = None not in (exported.semantic, exported.codec.encoder)
  for name in assembly.STAGES if reads_clips else ():
    place = f'stages/{name}'
    pair = parity_stages.Pair.load(place, bundles[place], directory / place)
    packed = pair.config.layout.pack(_codes(model, pair, clips))
    parity_stages.compare_logits(sheet, pair, packed, about='real rows')
  _compare_music(sheet, model, exported)


def _load(
  bundles: Mapping[str, Bundle], *, sampling: SamplingConfig
) -> music_lm.MusicLM:
  """JAX's model."""
  codec, conditioner = bundles['codec'], None
  if mulan := bundles.get('mulan'):
    conditioner = mulan.config.make_conditioner(
      mulan.weights, stream=mulan.stream_out
    )
  tokenizer = None
  if semantic := bundles.get('semantic'):
    tokenizer = semantic.config.make_tokenizer(
      semantic.weights, stream=semantic.stream_out
    )
  stages = {
    name: StageDecoder.of_bundle(bundles[f'stages/{name}'])
    for name in assembly.STAGES
  }
  return music_lm.MusicLM(
    codec=codec.config.make_codec(codec.weights, stream=codec.stream_out),
    conditioner=conditioner,
    cascade=cascade.Cascade(**stages),
    semantic=tokenizer and (lambda: tokenizer),
    fingerprints={place: b.fingerprint for place, b in bundles.items()},
    sampling=sampling,
  )


def _codes(
  model: music_lm.MusicLM, pair: parity_stages.Pair, clips: Clips
) -> dict[str, Int[np.ndarray, 'batch _ _']]:
  """Codes of one window of each clip, as a corpus of tokens holds them."""
  window = pair.config.spec.window_seconds
  rate_hz = model.sample_rate_hz
  waveform = clips.batch(
    sample_rate_hz=rate_hz, num_samples=int(window * rate_hz)
  )
  tokenizer = model.semantic()
  codes = {
    model.codec.stream.name: np.asarray(
      model.codec.encode(waveform, sample_rate_hz=rate_hz)
    ),
    tokenizer.stream.name: np.asarray(
      tokenizer.encode(waveform, sample_rate_hz=rate_hz)
    )[..., None],
  }
  if model.conditioner is not None:
    heard = model.conditioner.encode_audio(waveform, sample_rate_hz=rate_hz)
    codes[model.conditioner.stream.name] = heard
  return codes


def _compare_music(
  sheet: parity.Sheet, model: music_lm.MusicLM, exported: TorchMusicLM
) -> None:
  prompts = None if model.conditioner is None else _PROMPTS
  request = Request(prompts=prompts, seconds=_SECONDS, num_samples=_NUM_SAMPLES)
  with parity.highest_precision():
    wanted = model.compose(request)
  got = exported.compose(prompts, seconds=_SECONDS, num_samples=_NUM_SAMPLES)
  equal = np.ones(len(wanted.waveform), bool)
  for name in ('semantic', 'acoustic'):
    ours, theirs = getattr(wanted, name), getattr(got, name).numpy()
    same = ours == theirs
    equal &= same.all(axis=(1, 2))
    # Without a bound: one near tie changes all that follows. The stages have
    # theirs, code by code.
    sheet.checks.append(
      parity.Check(
        component=COMPONENT,
        name=f'{name} codes of music',
        shape=ours.shape,
        equal_share=float(same.mean()),
      )
    )
  if not equal.any():
    # Not an error yet: the sheet says which layer or stage parts first.
    sheet.checks.append(
      parity.Check(
        component=COMPONENT,
        name='pieces of equal codes',
        shape=equal.shape,
        equal_share=0.0,
        bound='one or more',
        passed=False,
      )
    )
    return
  sheet.values(
    COMPONENT,
    f'waveform of {equal.sum()} pieces of {len(equal)}, those of equal codes',
    wanted=wanted.waveform[equal],
    got=got.waveform.numpy()[equal],
    absolute=parity.WAVEFORM_BOUND,
  )
