# SPDX-License-Identifier: Apache-2.0
"""Tagging clips that nobody trained a tagger for: tags are texts.

MuLan (Huang et al., 2022), section 4.2: a tag's score of a clip is the product
of their embeddings, and the figure the area under the ROC curve, averaged over
tags: the probability that a clip with the tag scores above one without.

Shapes: scores and positive [clips, tags].
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float


def areas(
  scores: Float[np.ndarray, 'clips tags'],
  positive: Bool[np.ndarray, 'clips tags'],
) -> Float[np.ndarray, ' tags']:
  """The area under the ROC curve of each tag; equal scores count a half.

  NaN for a tag that all of the clips have, or none.
  """
  ranks = scipy.stats.rankdata(scores, axis=0)
  num_with = positive.sum(axis=0)
  num_without = len(positive) - num_with
  above = (ranks * positive).sum(axis=0) - num_with * (num_with + 1) / 2
  pairs = (num_with * num_without).astype(np.float64)
  return np.divide(
    above, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0
  )


def mean_area(
  scores: Float[np.ndarray, 'clips tags'],
  positive: Bool[np.ndarray, 'clips tags'],
) -> float:
  """The mean over the tags that some clips have and others lack."""
  return float(np.nanmean(areas(scores, positive)))


def tags_of(
  clips: Sequence[Collection[str]], *, min_clips: int
) -> tuple[tuple[str, ...], Bool[np.ndarray, 'clips tags']]:
  """The tags to test, and which clips have them.

  Args:
    clips: The tags of each clip.
    min_clips: A tag that fewer clips have, or fewer lack, is left out.
  """
  names = sorted(set().union(*clips))
  positive = np.array([[tag in clip for tag in names] for clip in clips], bool)
  positive = positive.reshape(len(clips), len(names))
  num_with = positive.sum(axis=0)
  kept = (num_with >= min_clips) & (len(clips) - num_with >= min_clips)
  return tuple(np.array(names, object)[kept].tolist()), positive[:, kept]
