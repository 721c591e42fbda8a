# SPDX-License-Identifier: Apache-2.0
"""What the codes of held-out music cost a stage, level by level, in bits.

Each code is predicted from all that precedes it in its row, as in training
(MusicLM, Agostinelli et al., 2023, section 3.2), by a softmax over the codes
that are legal there; beside it are baselines that count (`ngram`). Bits add up:
the figure of a stage is the mean over all codes. Intervals are over tunes, since
renderings of one tune are no independent witnesses.

Shapes: codes [batch, frames, levels] of one clip's windows, bits the same, of
the levels that the stage makes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax import batches
from musiclm_jax.array_types import Batch, Tokens
from musiclm_jax.evaluation import bootstrap, ngram, report
from musiclm_jax.stages import lm
from musiclm_jax.stages.layout import NO_CODE

STAGE = 'stage'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """Held-out codes.

  Attributes:
    tune: What is drawn anew for the interval.
    windows: Batches of windows of the stage's length, as in training.
  """

  tune: str
  windows: tuple[Batch, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageFigures:
  """What one stage's output costs.

  Attributes:
    name: Of the stage.
    levels: As numbered in the stream, from 0.
    codebook_size: Of each level.
    tunes: Of each clip.
    num_codes: In each clip, of one level.
    bits: By predictor, the bits of each clip's codes: [clips, levels].
  """

  name: str
  levels: tuple[int, ...]
  codebook_size: int
  tunes: tuple[str, ...]
  num_codes: Float[np.ndarray, ' clips']
  bits: Mapping[str, Float[np.ndarray, 'clips levels']]

  def estimate(
    self,
    predictor: str,
    *,
    level: int | None = None,
    minus: str | None = None,
  ) -> bootstrap.Estimate:
    """Bits per code; of all levels together if `level`, an index, is left out.

    With `minus`, the difference to that predictor on the same codes.
    """
    bits = self.bits[predictor]
    if minus is not None:
      bits = bits - self.bits[minus]
    bits = bits.mean(axis=1) if level is None else bits[:, level]
    return bootstrap.estimate(
      lambda rows: float(bits[rows].sum() / self.num_codes[rows].sum()),
      groups=self.tunes,
    )


def evaluate(
  config: lm.StageLMConfig,
  weights: Mapping[str, Any],
  clips: Iterable[Clip],
  *,
  baselines: ngram.Baselines,
) -> StageFigures:
  """Predicts every code of held-out clips.

  Args:
    config: Of the stage.
    weights: As its bundle has them.
    clips: Held out; batches of one size compile once.
    baselines: Of the stage's output stream, all of its levels; of runs, where
      the stage has no repeats.
  """
  take = config.spec.output
  levels = list(take.levels)
  tunes, num_codes, bits = [], [], []
  for clip in clips:
    sums = dict.fromkeys((STAGE, *_NAMES), np.zeros(len(levels)))
    count = 0
    for batch in clip.windows:
      codes = {n: batch[batches.codes_key(n)] for n in config.spec.streams}
      masks = {n: batch[batches.frame_mask_key(n)] for n in config.spec.streams}
      tokens = config.layout.pack(codes, frame_masks=masks)
      made = config.layout.unpack(tokens)
      mask = (made != NO_CODE)[..., 0]
      heard = codes[take.stream.name]
      if take.distinct_share is not None:
        heard = np.maximum(made, 0)  # Of runs; masked where there is none.
      of_window = {
        STAGE: np.asarray(_stage_bits(weights, tokens, config=config))
      }
      of_window |= _baseline_bits(baselines, heard, levels)
      for name, values in of_window.items():
        sums[name] = sums[name] + values[mask].sum(axis=0, dtype=np.float64)
      count += np.count_nonzero(mask)
    tunes.append(clip.tune)
    num_codes.append(count)
    bits.append(sums)
  return StageFigures(
    name=config.spec.name,
    levels=tuple(levels),
    codebook_size=take.stream.codebook_size,
    tunes=tuple(tunes),
    num_codes=np.array(num_codes, np.float64),
    bits={
      name: np.stack([of_clip[name] for of_clip in bits])
      for name in (STAGE, *_NAMES)
    },
  )


_NAMES = (ngram.UNIGRAM, ngram.IN_TIME, ngram.IN_DEPTH)


@functools.partial(jax.jit, static_argnames='config')
def _stage_bits(
  weights: Mapping[str, Any], tokens: Tokens, *, config: lm.StageLMConfig
) -> Float[jax.Array, 'batch frames levels']:
  logits = lm.StageLM(config).apply(weights, tokens)
  wanted = jnp.maximum(
    config.layout.unpack(tokens), 0
  )  # Masked where there is none.
  log_p = jax.nn.log_softmax(logits, axis=-1)
  nats = -jnp.take_along_axis(log_p, wanted[..., None], axis=-1)[..., 0]
  return nats / math.log(2)


def _baseline_bits(
  baselines: ngram.Baselines, codes: np.ndarray, levels: list[int]
) -> dict[str, np.ndarray]:
  """Bits of each window by baseline, of those levels."""
  windows = [baselines.bits(window) for window in codes]
  return {
    name: np.stack([window[name] for window in windows])[..., levels]
    for name in _NAMES
  }


def to_json(figures: StageFigures) -> dict[str, Any]:
  """Every clip's bits, and the estimates of each level."""
  return {
    'stage': figures.name,
    'levels': [level + 1 for level in figures.levels],
    'codebook_size': figures.codebook_size,
    'tunes': list(figures.tunes),
    'num_codes': figures.num_codes.tolist(),
    'bits': {name: bits.tolist() for name, bits in figures.bits.items()},
    'bits_per_code': {
      name: {
        'all': dataclasses.asdict(figures.estimate(name)),
        'levels': [
          dataclasses.asdict(figures.estimate(name, level=level))
          for level in range(len(figures.levels))
        ],
      }
      for name in figures.bits
    },
  }


def to_markdown(figures: StageFigures) -> str:
  """One table: bits per code of each level, and of all together."""
  rows = [
    [
      'level',
      *_NAMES,
      'stage',
      'stage less the best of them',
    ]
  ]
  shown = list(range(len(figures.levels)))
  for level in shown + ([None] if len(shown) > 1 else []):
    means = {name: figures.estimate(name, level=level).mean for name in _NAMES}
    best = min(means, key=means.get)
    name = 'all' if level is None else str(figures.levels[level] + 1)
    rows.append(
      [
        name,
        *(f'{mean:.3f}' for mean in means.values()),
        report.show(figures.estimate(STAGE, level=level)),
        report.show(figures.estimate(STAGE, level=level, minus=best), sign='+'),
      ]
    )
  return (
    f'Stage {figures.name!r}, bits per code'
    f' ({math.log2(figures.codebook_size):g} without a model):\n\n'
    + report.table(rows)
  )
