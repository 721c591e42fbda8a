# SPDX-License-Identifier: Apache-2.0
"""Whether a text gets the codes of the music it describes.

Stages are trained on codes of music and generate from codes of texts, so a
level on which the two hardly ever agree tells a stage nothing in generation.

Shapes: windows [points, levels], clips and each of texts [clips, levels].
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from musiclm_jax.evaluation import codebook_usage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
  """What the codebooks make of the clips and their captions.

  Attributes:
    windows: Of the windows of all clips, [points, levels].
    clips: Of each clip's mean direction, [clips, levels].
    texts: Of the captions, for each kind, [clips, levels].
    codebook_size: Of each level.
  """

  windows: Int[np.ndarray, 'points levels']
  clips: Int[np.ndarray, 'clips levels']
  texts: tuple[Int[np.ndarray, 'clips levels'], ...]
  codebook_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelFigures:
  """One level of the codebooks.

  Attributes:
    music: How the windows of the clips use it.
    captions: How the captions of all kinds use it.
    agreement: Share of captions whose code is that of their clip.
    blind_agreement: The share if captions were those of other clips.
  """

  music: codebook_usage.CodebookFigures
  captions: codebook_usage.CodebookFigures
  agreement: float
  blind_agreement: float


def measure(codes: Codes) -> tuple[LevelFigures, ...]:
  """The figures of every level, coarsest first."""
  return tuple(
    _measure_level(codes, level) for level in range(codes.windows.shape[1])
  )


def _measure_level(codes: Codes, level: int) -> LevelFigures:
  size = codes.codebook_size
  music = np.tile(codes.clips[:, level], len(codes.texts))
  captions = np.concatenate([text[:, level] for text in codes.texts])
  shares = [
    np.bincount(side, minlength=size) / len(side) for side in (music, captions)
  ]
  return LevelFigures(
    music=_usage(codes.windows[:, level], size=size),
    captions=_usage(captions, size=size),
    agreement=float(np.mean(music == captions)),
    blind_agreement=float(np.sum(shares[0] * shares[1])),
  )


def _usage(
  codes: Int[np.ndarray, ' points'], *, size: int
) -> codebook_usage.CodebookFigures:
  return codebook_usage.measure(np.bincount(codes, minlength=size))
