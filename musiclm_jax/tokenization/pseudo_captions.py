# SPDX-License-Identifier: Apache-2.0
"""Captions for music that has none: sentences that a joint space finds near.

Noise2Music (Huang et al., 2023), section 3.1: of a vocabulary of sentences, a
clip's candidates are the nearest to its mean embedding, ten in the paper; three
of them are drawn with probabilities inverse to how many clips a sentence is a
candidate of, so that sentences that fit everything are rare.

Shapes: music [clips, embed], sentences [sentences, embed], unit vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def candidates(
  music: Float[np.ndarray, 'clips embed'],
  sentences: Float[np.ndarray, 'sentences embed'],
  *,
  num_candidates: int,
) -> Int[np.ndarray, 'clips candidates']:
  """The nearest sentences of each clip, nearest first."""
  if not 1 <= num_candidates <= len(sentences):
    raise ValueError(
      f'{num_candidates} candidates of {len(sentences)} sentences are wanted;'
      ' ask for at least 1, and no more than there are.'
    )
  # A clip at a time: a vocabulary may have millions of sentences.
  rows = []
  for clip in music:
    scores = sentences @ clip
    nearest = np.argpartition(-scores, num_candidates - 1)[:num_candidates]
    rows.append(nearest[np.argsort(-scores[nearest], kind='stable')])
  return np.array(rows)


def draw(
  chosen: Int[np.ndarray, 'clips candidates'],
  *,
  clip_ids: Sequence[str],
  num_captions: int,
  seed: int = 0,
) -> Int[np.ndarray, 'clips captions']:
  """Some of the candidates of each clip, the rarer the likelier.

  Args:
    chosen: Of `candidates`.
    clip_ids: Name each clip's draw, which its place among the others does not
      change.
    num_captions: How many of them to keep, in the order of the candidates.
    seed: Of all draws.
  """
  num_candidates = chosen.shape[1]
  if not 1 <= num_captions <= num_candidates:
    raise ValueError(
      f'{num_captions} captions of {num_candidates} candidates are wanted; ask'
      ' for at least 1, and no more than there are.'
    )
  frequency = np.bincount(chosen.ravel())
  rows = []
  for clip_id, row in zip(clip_ids, chosen, strict=True):
    weights = 1 / frequency[row]
    kept = _generator(clip_id, seed=seed).choice(
      num_candidates,
      num_captions,
      replace=False,
      p=weights / weights.sum(),
    )
    rows.append(row[np.sort(kept)])
  return np.array(rows)


def _generator(clip_id: str, *, seed: int) -> np.random.Generator:
  digest = hashlib.sha256(f'{seed}\n{clip_id}'.encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:16], 'big'))
