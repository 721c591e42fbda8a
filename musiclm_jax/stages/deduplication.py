# SPDX-License-Identifier: Apache-2.0
"""Runs of one code as one code: AudioLM's removal of repeated semantic codes.

AudioLM (Borsos et al., 2022), section IV, removes consecutive repetitions of
semantic codes in the first two stages. A code then says what comes next, and no
longer when: how long a run lasts is left to the acoustic codes. So time has to
be counted in some other way where music is made, which the paper does not say.
Ours: by the share of frames that begin a run (`CodeTimes`).

Shapes: frames = those of a window, or of one clip; runs stand where frames did,
from the first place on.
"""

from __future__ import annotations

import dataclasses
import fractions
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from musiclm_jax.stages.spec import Take

# Any array library with NumPy's interface, tracers included.
Array = Any


def remove_repeats(
  codes: Int[Array, 'batch frames 1'],
  mask: Bool[Array, 'batch frames 1'],
  *,
  xp: Any = np,
) -> tuple[Int[Array, 'batch frames 1'], Bool[Array, 'batch frames 1']]:
  """The code of each run, from the first place on, and where there is one.

  Args:
    codes: Of frames; codes without repeats come back as they are.
    mask: True at the frames that there are; they come first.
    xp: The library of both.
  """
  is_other = codes[:, 1:] != codes[:, :-1]
  opens = mask & xp.concatenate([xp.ones_like(mask[:, :1]), is_other], axis=1)
  order = xp.argsort(~opens, axis=1, stable=True)
  return (
    xp.take_along_axis(codes, order, axis=1),
    xp.take_along_axis(opens, order, axis=1),
  )


def runs(
  codes: Int[np.ndarray, ' frames'],
) -> tuple[Int[np.ndarray, ' runs'], Int[np.ndarray, ' runs']]:
  """The code and the length of each run; `np.repeat` undoes it."""
  is_other = codes[1:] != codes[:-1]
  starts = np.flatnonzero(np.concatenate([[len(codes) > 0], is_other]))
  return codes[starts], np.diff(starts, append=len(codes))


def distinct_share(
  clips: Iterable[Int[np.ndarray, ' frames']],
) -> fractions.Fraction:
  """The share of frames, but for the first of a clip, that begin a run."""
  begun = total = 0
  for codes in clips:
    begun += np.count_nonzero(codes[1:] != codes[:-1])
    total += max(0, len(codes) - 1)
  # Of one code alone a window still has a run.
  return fractions.Fraction(max(1, int(begun)), max(1, total))


@dataclasses.dataclass(frozen=True)
class CodeTimes:
  """Which code of a piece sounds in each of its frames.

  Attributes:
    code_at: Its number, from 0 on, [frames].
  """

  code_at: Int[np.ndarray, ' frames']

  @classmethod
  def of(
    cls,
    take: Take,
    *,
    num_frames: int,
    given: Int[np.ndarray, ' frames'] = np.zeros(1, int),  # noqa: B008
  ) -> CodeTimes:
    """Of a piece to be made.

    A code a frame, unless repeats are removed. Then the times of what is given
    are known, and after that each frame begins a run as often as in the corpus.

    Args:
      take: Of the stream.
      num_frames: Of the piece.
      given: The codes of its first frames; if there are none, any one.
    """
    if take.distinct_share is None:
      return cls(np.arange(num_frames))
    known = np.cumsum(np.concatenate([[0], given[1:] != given[:-1]]))
    share = take.distinct_share
    later = np.arange(1, num_frames - len(given) + 1) * share.numerator
    made = known[-1] + later // share.denominator
    return cls(np.concatenate([known, made]))

  def span(self, start: int, stop: int) -> slice:
    """The codes that sound in the frames from `start` to before `stop`."""
    if start == stop:
      return slice(0, 0)
    return slice(int(self.code_at[start]), int(self.code_at[stop - 1]) + 1)
