# SPDX-License-Identifier: Apache-2.0
"""Three stages that fit together, and the time that they count in.

All times are in ticks, the shortest time that is a whole number of frames of
both streams: 40 ms at 25 and 50 Hz.
"""

from __future__ import annotations

import fractions
import math

from torch import nn

from .layout import TokenStream
from .stage import StageLM

NAMES = ('semantic', 'coarse', 'fine')


class Cascade(nn.ModuleDict):
  """The stages, by name, in the order in which they are run."""

  def __init__(self, stages: dict[str, StageLM]):
    super().__init__({name: stages[name] for name in NAMES})

  @property
  def semantic_stream(self) -> TokenStream:
    return self['semantic'].layout.output.stream

  @property
  def acoustic_stream(self) -> TokenStream:
    return self['coarse'].layout.output.stream

  @property
  def num_levels(self) -> int:
    """Acoustic levels that are made."""
    return self['fine'].layout.output.levels.stop

  @property
  def tick_seconds(self) -> fractions.Fraction:
    """The shortest time that is a whole number of frames of both streams."""
    periods = [
      1 / stream.rate_hz
      for stream in (self.semantic_stream, self.acoustic_stream)
    ]
    return fractions.Fraction(
      math.lcm(*(period.numerator for period in periods)),
      math.gcd(*(period.denominator for period in periods)),
    )

  @property
  def condition_names(self) -> frozenset[str]:
    """The streams that condition a stage and that none makes."""
    made = {self.semantic_stream.name, self.acoustic_stream.name}
    streams = (model.layout.streams for model in self.values())
    return frozenset().union(*streams) - made

  def ticks(self, seconds: fractions.Fraction) -> int:
    """Whole ticks that hold `seconds`."""
    return -(-seconds // self.tick_seconds)

  def frames(self, stream: TokenStream, *, ticks: int) -> int:
    """Frames of `stream` in `ticks`."""
    return ticks * stream.num_frames(self.tick_seconds)

  def window(self, name: str) -> int:
    """Ticks of a sliding stage's window."""
    return int(self[name].layout.window_seconds / self.tick_seconds)
