# SPDX-License-Identifier: Apache-2.0
"""Which families of instruments play, by the tags of musicnn.

The tags are those of MagnaTagATune that name an instrument. Brass, mallets, reeds
and the organ have none, and are not heard at all. A family is as likely as its
likeliest tag, on the mean over patches of 3 s.

Shapes: scores [families], in the order of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from musiclm_jax.evaluation.embedders.base import Classifier

TAGS: Mapping[str, tuple[str, ...]] = {
  'keyboard': ('piano', 'harpsichord'),
  'plucked strings': ('guitar', 'harp', 'sitar'),
  'bowed strings': ('violin', 'cello', 'strings'),
  'woodwind': ('flute',),
}
FAMILIES = tuple(TAGS)

Scores = Float[np.ndarray, ' families']


def family_scores(
  probabilities: Float[np.ndarray, 'patches classes'],
  *,
  classes: Sequence[str],
) -> Scores:
  """How likely each family plays in these patches."""
  means = dict(zip(classes, probabilities.mean(axis=0)))
  return np.array([max(means[tag] for tag in tags) for tags in TAGS.values()])


def listen(
  waveform: Float[np.ndarray, ' samples'], *, classifier: Classifier
) -> tuple[Scores, Scores]:
  """The families of the first and of the second half of a clip.

  Args:
    waveform: At the classifier's rate.
    classifier: musicnn, or what else has its tags.
  """
  halves = np.array_split(waveform, 2)
  first, second = (
    family_scores(
      classifier.probabilities(classifier.embed(half)),
      classes=classifier.classes,
    )
    for half in halves
  )
  return first, second


def heard(scores: Scores, *, number: int) -> set[str]:
  """The so many likeliest families."""
  return {FAMILIES[place] for place in np.argsort(-scores)[:number]}


def recall(scores: Scores, families: Sequence[str]) -> float:
  """The share of the stated families that are among as many likeliest ones."""
  stated = audible(families)
  return len(stated & heard(scores, number=len(stated))) / len(stated)


def avoided(
  scores: Scores, families: Sequence[str], absent: Sequence[str]
) -> float:
  """1 if no absent family is among as many likeliest ones as shall play."""
  found = heard(scores, number=max(1, len(audible(families))))
  return float(not found & set(absent))


def in_order(first: Scores, second: Scores, order: Sequence[str]) -> float:
  """1 if the earlier family loses more from first to second half."""
  lost = dict(zip(FAMILIES, first - second))
  return float(lost[order[0]] > lost[order[1]])


def audible(families: Sequence[str]) -> set[str]:
  """Those that the tags can tell."""
  return set(families) & set(FAMILIES)
