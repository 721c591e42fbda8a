# SPDX-License-Identifier: Apache-2.0
"""A figure of music and its prompt, beside the same of music and other prompts.

The tools err and prompts resemble each other, so a share of agreement says little
by itself. The same music is therefore also scored under the prompts of other
clips; what is gained over that is the prompt's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from musiclm_jax.evaluation import bootstrap

# How many other prompts each clip is scored under, at most.
NUM_SHIFTS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """One kind of agreement, over the clips whose prompts state the fact.

  Attributes:
    name: What agrees.
    own: Under each clip's own prompt; intervals are over prompts, so that the
      samples of one are drawn together.
    shuffled: Under other prompts.
    gain: The difference, clip by clip.
    values: Of each clip, under its own prompt.
  """

  name: str
  own: bootstrap.Estimate
  shuffled: bootstrap.Estimate
  gain: bootstrap.Estimate
  values: tuple[float, ...]


def measure(
  name: str,
  score: Callable[[int, int], float],
  *,
  clips: Sequence[int],
  prompts: Sequence[Hashable],
) -> Figure | None:
  """Scores each clip under its own prompt and under up to 8 other ones.

  Args:
    name: Of the figure.
    score: Of the music of one clip under the prompt of another.
    clips: Those whose prompts state the fact.
    prompts: What tells that of each clip: samples of one are no others.

  Returns:
    The figure; None where fewer than two different prompts state the fact.
  """
  # One clip stands for its prompt, in the order of prompts.
  first_of = {prompts[clip]: clip for clip in reversed(clips)}
  asked = list(first_of.values())[::-1]
  if len(asked) < 2:
    return None
  places = {prompts[clip]: place for place, clip in enumerate(asked)}
  own = np.array([score(clip, clip) for clip in clips])
  shuffled = np.zeros(len(clips))
  shifts = _shifts(len(asked))
  for shift in shifts:
    others = np.roll(asked, -shift)
    shuffled += [
      score(clip, int(others[places[prompts[clip]]])) for clip in clips
    ]
  shuffled /= len(shifts)

  def mean_of(values: np.ndarray) -> bootstrap.Estimate:
    return bootstrap.estimate(
      lambda rows: float(values[rows].mean()),
      groups=[prompts[clip] for clip in clips],
    )

  return Figure(
    name=name,
    own=mean_of(own),
    shuffled=mean_of(shuffled),
    gain=mean_of(own - shuffled),
    values=tuple(own.tolist()),
  )


def _shifts(number: int) -> list[int]:
  """Spread evenly, so that neighbours, often alike, do not decide."""
  most = min(NUM_SHIFTS, number - 1)
  return sorted({1 + place * (number - 1) // most for place in range(most)})
