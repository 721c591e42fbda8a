# SPDX-License-Identifier: Apache-2.0
"""MCC: whether music matches its prompt, by a space of music and text.

MusicLM (Agostinelli et al., 2023), section 5.1, the MuLan cycle consistency: the
mean cosine of the embedding of a prompt and of the music made from it, windows
of a clip averaged. The paper says itself that it is partial to what was trained
on that space; ours is trained by the same user, and small. So beside it stands
what the same music would get with the prompts of the others: the difference is
what counts. With CLAP for the space it is a CLAP score.

Shapes: audio and texts [clips, embed], of length one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.conditioning.base import Embeddings
from musiclm_jax.evaluation import bootstrap


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsistencyFigures:
  """How well music matches, and how well by chance; intervals over prompts.

  Attributes:
    matched: Mean cosine of clips and their prompts.
    shuffled: Of each clip and all prompts that are not its own.
    above_shuffled: The difference.
    best_of_all: Share of clips that match no other prompt better.
  """

  matched: bootstrap.Estimate
  shuffled: bootstrap.Estimate
  above_shuffled: bootstrap.Estimate
  best_of_all: bootstrap.Estimate


def measure(
  audio: Embeddings, texts: Embeddings, *, prompts: Sequence[str]
) -> ConsistencyFigures:
  """The figures of clips, each beside its prompt.

  Args:
    audio: Of the clips.
    texts: Of their prompts.
    prompts: The same in words: clips of one prompt are no wrong answers of each
      other, and are drawn together for the intervals.

  Raises:
    ValueError: There are not two different prompts to shuffle.
  """
  if len(set(prompts)) < 2:
    raise ValueError(
      f'{len(set(prompts))} prompt cannot be shuffled; give music of at least 2'
      ' different ones.'
    )
  cosines = np.asarray(audio, np.float64) @ np.asarray(texts, np.float64).T
  others = np.array([[a != b for b in prompts] for a in prompts])
  matched = np.diagonal(cosines)
  shuffled = (cosines * others).sum(axis=1) / others.sum(axis=1)
  best = np.all(~others | (matched[:, None] > cosines), axis=1)

  def mean_of(values: np.ndarray) -> bootstrap.Estimate:
    return bootstrap.estimate(
      lambda rows: float(values[rows].mean()), groups=prompts
    )

  return ConsistencyFigures(
    matched=mean_of(matched),
    shuffled=mean_of(shuffled),
    above_shuffled=mean_of(matched - shuffled),
    best_of_all=mean_of(best.astype(np.float64)),
  )
