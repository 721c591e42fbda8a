# SPDX-License-Identifier: Apache-2.0
"""KLD: how far what a classifier hears in music is from what it should hear.

MusicLM (Agostinelli et al., 2023), section 5.1: the divergence of the class
probabilities of generated music from those of the reference for the same
prompt. Which classifier, which direction and how probabilities of classes that
do not exclude each other become a distribution is not said there, and its
classifier is not public. Ours: windows of a clip are averaged, the floor is
added, the row is divided by its sum, and the divergence is KL(reference ‖
generated) in nats: large where the reference has a class that the music lacks.
Name a figure by its classifier: KLD of MagnaTagATune's tags is not KLD of
AudioSet's classes.

Shapes: probabilities [frames, classes] of one clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.special
from jaxtyping import Float

from musiclm_jax.evaluation import bootstrap

_FLOOR = 1e-6  # Keeps a class that is never heard from infinity.

Probabilities = Float[np.ndarray, '_ classes']  # Clips differ in length.
Distribution = Float[np.ndarray, ' classes']


@dataclasses.dataclass(frozen=True, kw_only=True)
class KldFigures:
  """How far the classes heard in two sets are apart.

  Attributes:
    paired: Mean over clips and their references; its interval is over
      references, so that clips of one are drawn together. None if no clip has
      one.
    sets: Of the mean distributions of both sets, with an interval over clips of
      the first: blind to which clip is which.
    most_apart: The classes whose share differs most, with their mean share in
      the reference and in the set.
  """

  paired: bootstrap.Estimate | None
  sets: bootstrap.Estimate
  most_apart: dict[str, tuple[float, float]]


def distribution(probabilities: Probabilities) -> Distribution:
  """One row that adds up to 1, of the windows of a clip."""
  mean = np.mean(np.asarray(probabilities, np.float64), axis=0) + _FLOOR
  return mean / mean.sum()


def divergence(reference: Distribution, generated: Distribution) -> float:
  """KL(reference ‖ generated) in nats."""
  return float(scipy.special.rel_entr(reference, generated).sum())


def measure(
  clips: Sequence[Probabilities],
  *,
  reference: Sequence[Probabilities],
  pairs: Sequence[tuple[int, int]],
  classes: Sequence[str],
  num_shown: int = 8,
) -> KldFigures:
  """KLD of clips to their references, and of the set to the set.

  Args:
    clips: The probabilities in each clip of the set.
    reference: Those in each clip of the reference.
    pairs: Numbers of a clip and of its reference.
    classes: Their names.
    num_shown: How many classes are named.
  """
  ours = np.stack([distribution(clip) for clip in clips])
  theirs = np.stack([distribution(clip) for clip in reference])
  goal = theirs.mean(axis=0)
  paired = np.array([divergence(theirs[b], ours[a]) for a, b in pairs])
  mean = ours.mean(axis=0)
  apart = np.argsort(-np.abs(goal - mean))[:num_shown]
  sets = bootstrap.estimate(
    lambda rows: divergence(goal, ours[rows].mean(axis=0)),
    groups=range(len(ours)),
    recentred=True,  # A mean of fewer clips is further from any goal.
  )
  return KldFigures(
    paired=bootstrap.estimate(
      lambda rows: float(paired[rows].mean()), groups=[b for _, b in pairs]
    )
    if pairs
    else None,
    sets=dataclasses.replace(sets, low=max(sets.low, 0.0)),
    most_apart={
      classes[n]: (float(goal[n]), float(mean[n])) for n in apart.tolist()
    },
  )
