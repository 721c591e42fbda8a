# SPDX-License-Identifier: Apache-2.0
"""Prompts over time: one text for a piece, or several, each from a moment on.

MusicLM (Agostinelli et al., 2023), section 5 ("story mode"), changes the text
every 15 s; here it may change at any moment. A schedule file has a line for
each text, `SECONDS TEXT`; empty lines and those that begin with # are comments.
"""

from __future__ import annotations

import dataclasses
import fractions
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from musiclm_jax.streams import Exact


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """What one piece is asked to sound like.

  Attributes:
    starts_seconds: From when on each text holds; exact, rising, the first 0.
    texts: One for each start, none of them empty.
  """

  starts_seconds: tuple[Exact, ...]
  texts: tuple[str, ...]

  def __post_init__(self):
    starts = tuple(map(_seconds, self.starts_seconds))
    object.__setattr__(self, 'starts_seconds', starts)
    if not starts or starts[0] != 0 or len(starts) != len(self.texts):
      raise ValueError(
        f'The texts {list(self.texts)} start at'
        f' {[float(start) for start in starts]} s; each needs a start, and the'
        ' first starts at 0.'
      )
    for before, after in zip(starts, starts[1:]):
      if after <= before:
        raise ValueError(
          f'A text starts at {float(after):g} s, after one at'
          f' {float(before):g} s; write them in order of time.'
        )
    for text in self.texts:
      if not isinstance(text, str) or not text.strip():
        raise ValueError(
          f'{text!r} is not a prompt; describe the music in a few words.'
        )

  @property
  def label(self) -> str:
    """The texts in one line."""
    parts = [
      text if start == 0 else f'{float(start):g} s: {text}'
      for start, text in zip(self.starts_seconds, self.texts)
    ]
    return ' | '.join(parts)


# What a user writes: a text, one piece over time, or several of either.
Prompts = (
  str
  | Schedule
  | Sequence[str | Schedule | tuple[Exact, str] | Sequence[tuple[Exact, str]]]
)


def parse(prompts: Any) -> tuple[Schedule, ...]:
  """One schedule for each piece that is asked for.

  Args:
    prompts: A text; a sequence of (seconds, text), which is one piece; or a
      sequence whose elements are such pieces: texts, sequences of pairs or
      schedules.

  Raises:
    ValueError: It is none of these, or there is no prompt in it.
  """
  if isinstance(prompts, (str, Schedule)) or _is_pairs(prompts):
    prompts = [prompts]
  if not isinstance(prompts, Sequence) or not prompts:
    raise ValueError(
      f'{prompts!r} holds no prompt; give a text or several, such as'
      " ['slow piano waltz']."
    )
  return tuple(map(_one, prompts))


def read(path: str | os.PathLike[str]) -> Schedule:
  """The schedule in a file.

  Raises:
    ValueError: Names the file, and the line that is not `SECONDS TEXT`.
  """
  pairs = []
  lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  for number, line in enumerate(lines, start=1):
    line = line.strip()
    if not line or line.startswith('#'):
      continue
    start, _, text = line.partition(' ')
    try:
      pairs.append((_seconds(start), text.strip()))
    except ValueError as error:
      raise ValueError(f'{path}, line {number}: {error}') from error
  try:
    return _of_pairs(pairs)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _one(prompt: Any) -> Schedule:
  if isinstance(prompt, Schedule):
    return prompt
  if isinstance(prompt, str):
    return _of_pairs([(0, prompt)])
  if _is_pairs(prompt):
    return _of_pairs(prompt)
  raise ValueError(
    f'{prompt!r} is not a prompt; write a text, or (seconds, text) for each'
    ' text of one piece.'
  )


def _of_pairs(pairs: Sequence[tuple[Exact, str]]) -> Schedule:
  return Schedule(
    starts_seconds=tuple(start for start, _ in pairs),
    texts=tuple(text for _, text in pairs),
  )


def _is_pairs(prompts: Any) -> bool:
  return (
    isinstance(prompts, Sequence)
    and not isinstance(prompts, str)
    and bool(prompts)
    and all(
      isinstance(item, (tuple, list))
      and len(item) == 2
      and not isinstance(item[0], (str, tuple, list, Schedule))
      for item in prompts
    )
  )


def _seconds(value: Exact) -> fractions.Fraction:
  try:
    return fractions.Fraction(str(value))
  except (ValueError, ZeroDivisionError) as error:
    raise ValueError(
      f'{value!r} is not a number of seconds; write `15 a drop`, say.'
    ) from error
