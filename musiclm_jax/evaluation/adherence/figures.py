# SPDX-License-Identifier: Apache-2.0
"""A figure of music and its prompt, beside the same of music and other prompts.

The tools err and prompts resemble each other, so a share of agreement says little
by itself. The same music is therefore also scored under the prompts of other
clips; what is gained over that is the prompt's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from musiclm_jax.evaluation import bootstrap

# How many other prompts each clip is scored under, at most.
NUM_SHIFTS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """One kind of agreement, over the clips whose prompts state the fact.

  Attributes:
    name: What agrees.
    own: Under each clip's own prompt, with its interval over clips.
    shuffled: Under the prompts of others.
    gain: The difference, clip by clip.
    values: Of each clip, under its own prompt.
  """

  name: str
  own: bootstrap.Estimate
  shuffled: bootstrap.Estimate
  gain: bootstrap.Estimate
  values: tuple[float, ...]


def measure(
  name: str, score: Callable[[int, int], float], *, clips: Sequence[int]
) -> Figure | None:
  """Scores each clip under its own prompt and under those of up to 8 others.

  Args:
    name: Of the figure.
    score: Of the music of one clip under the prompt of another.
    clips: Those whose prompts state the fact.

  Returns:
    The figure; None where fewer than two prompts state the fact.
  """
  if len(clips) < 2:
    return None
  own = np.array([score(clip, clip) for clip in clips])
  shuffled = np.zeros(len(clips))
  shifts = _shifts(len(clips))
  for shift in shifts:
    others = np.roll(clips, -shift)
    shuffled += [score(clip, int(other)) for clip, other in zip(clips, others)]
  shuffled /= len(shifts)
  return Figure(
    name=name,
    own=bootstrap.estimate_mean(own),
    shuffled=bootstrap.estimate_mean(shuffled),
    gain=bootstrap.estimate_mean(own - shuffled),
    values=tuple(own.tolist()),
  )


def _shifts(number: int) -> list[int]:
  """Spread evenly, so that neighbours, often alike, do not decide."""
  most = min(NUM_SHIFTS, number - 1)
  return sorted({1 + place * (number - 1) // most for place in range(most)})
