# SPDX-License-Identifier: Apache-2.0
"""Meters: as written, how long a bar is, and which note is the beat.

Lengths are in quarter notes. A tempo counts beats: the dotted quarter in 6/8,
the half in 2/2, so that a figure means what a listener would tap.
"""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

_SYMBOLS = {'C': '4/4', 'C|': '2/2'}
_BEAT_NAMES = {
  Fraction(1, 2): 'eighth note',
  Fraction(1): 'quarter note',
  Fraction(3, 2): 'dotted quarter note',
  Fraction(2): 'half note',
  Fraction(3): 'dotted half note',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meter:
  """`beats` notes of 1/`unit` in a bar: 6 and 8 are 6/8."""

  beats: int
  unit: int

  def __str__(self) -> str:
    return f'{self.beats}/{self.unit}'

  @property
  def bar_length(self) -> Fraction:
    return Fraction(4 * self.beats, self.unit)

  @property
  def is_compound(self) -> bool:
    """6/8, 9/8, 12/8, 6/4 and 3/8: three units are one beat."""
    return self.beats % 3 == 0 and (self.beats > 3 or self.unit == 8)

  @property
  def beat_length(self) -> Fraction:
    return Fraction(4 * (3 if self.is_compound else 1), self.unit)

  @property
  def beat_name(self) -> str:
    return _BEAT_NAMES[self.beat_length]


def parse_meter(text: str) -> Meter:
  """Reads '6/8', 'C' (4/4) or 'C|' (2/2)."""
  found = re.fullmatch(r'(\d+)/(2|4|8)', _SYMBOLS.get(text, text))
  if not found:
    raise ValueError(f'{text!r} is not a meter such as 6/8.')
  return Meter(beats=int(found[1]), unit=int(found[2]))
