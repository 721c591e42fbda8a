# SPDX-License-Identifier: Apache-2.0
"""What a stage of the cascade is: which codes go in, which come out.

A stage is a declaration over token streams. It names no codec and no model, so
a new codec changes no stage; lengths, ids, masks and which ids are legal are
derived from it in `layout.py`, and any kind of model (autoregressive or not)
may stand behind it. Standard library only, so that the machines that prepare
data can read one. MusicLM (Agostinelli et al., 2023), section 3.2.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Iterable

from musiclm_jax.streams import Exact, TokenStream

# The paper's, in the order in which they are run.
STAGES = ('semantic', 'coarse', 'fine')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Take:
  """Some levels of a stream.

  Attributes:
    stream: The stream that is taken from.
    first: The first level that is taken, 0 for the coarsest.
    count: How many levels are taken; `None` takes all from `first` on, and is
      replaced by their number, so that equal takes compare equal.
    distinct_share: If given, consecutive repeats of a code are removed: a row
      holds the code of each run, and padding in place of the others. It is the
      share of frames that begin a run in the corpus, by which generation
      counts; kept exact, as a fraction.
  """

  stream: TokenStream
  first: int = 0
  count: int | None = None
  distinct_share: Exact | None = None

  def __post_init__(self):
    if self.distinct_share is not None:
      self._require_deduplicable()
    available = self.stream.num_codebooks
    if self.count is None:
      object.__setattr__(self, 'count', available - self.first)
    if self.first < 0 or self.count < 1 or self.stop > available:
      raise ValueError(
        f'A take of {self.count} levels from level {self.first} of'
        f' {self.stream.name!r}, which has levels 0 to {available - 1}; change'
        ' `first` or `count`, or use a stream with more levels.'
      )

  def _require_deduplicable(self) -> None:
    share = fractions.Fraction(str(self.distinct_share))
    object.__setattr__(self, 'distinct_share', share)
    if not 0 < share <= 1:
      raise ValueError(
        f'The distinct_share of {self.stream.name!r} is {float(share):g}; it is'
        ' a share of frames, above 0 and at most 1.'
      )
    if self.stream.rate_hz is None or self.stream.num_codebooks != 1:
      raise ValueError(
        f'Repeats of {self.stream.name!r} cannot be removed: only a stream with'
        f' a rate and one codebook has runs, and it has {self.stream.rate_hz}'
        f' Hz and {self.stream.num_codebooks}. Leave distinct_share out.'
      )

  @property
  def stop(self) -> int:
    """One past the last level that is taken."""
    return self.first + self.count

  @property
  def levels(self) -> range:
    """The levels that are taken, as numbered in the stream."""
    return range(self.first, self.stop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageSpec:
  """One stage: codes to codes over one window.

  Attributes:
    name: What the stage is called in metrics, checkpoints and errors.
    inputs: What conditions the stage, in the order of its row; may be empty.
    output: What the stage makes.
    window_seconds: The time that one row covers. Kept exact, as a fraction; a
      stream without a rate has one frame in it.
  """

  name: str
  inputs: tuple[Take, ...]
  output: Take
  window_seconds: Exact

  def __post_init__(self):
    object.__setattr__(self, 'inputs', tuple(self.inputs))
    window = fractions.Fraction(str(self.window_seconds))
    object.__setattr__(self, 'window_seconds', window)
    if not self.name.isidentifier():
      raise ValueError(f'A stage name is an identifier, not {self.name!r}.')
    self._require_one_stream_a_name()
    self._require_distinct_inputs()
    self._require_whole_frames()

  @property
  def takes(self) -> tuple[Take, ...]:
    """Inputs and output, in the order of the row."""
    return (*self.inputs, self.output)

  @property
  def streams(self) -> dict[str, TokenStream]:
    """Every stream that the stage reads or makes, by name."""
    return {take.stream.name: take.stream for take in self.takes}

  @property
  def num_codes(self) -> int:
    """Codes in one row, special ids not counted."""
    return sum(self.num_frames(take) * take.count for take in self.takes)

  def num_frames(self, take: Take) -> int:
    """Frames of `take` in one window; with repeats removed, the most runs."""
    return take.stream.num_frames(self.window_seconds)

  def _require_one_stream_a_name(self) -> None:
    for take in self.takes:
      other = self.streams[take.stream.name]
      if other != take.stream:
        raise ValueError(
          f'Stage {self.name!r} takes two streams called {other.name!r}:'
          f' {take.stream} and {other}; give them different names.'
        )

  def _require_distinct_inputs(self) -> None:
    seen = set()
    for take in self.inputs:
      levels = {(take.stream.name, level) for level in take.levels}
      if twice := sorted(seen & levels):
        raise ValueError(
          f'Stage {self.name!r} takes level {twice[0][1]} of {twice[0][0]!r}'
          ' as an input twice; take each level once.'
        )
      seen |= levels

  def _require_whole_frames(self) -> None:
    rates = {
      take.stream.name: take.stream.rate_hz
      for take in self.takes
      if take.stream.rate_hz is not None
    }
    if self.window_seconds <= 0:
      raise ValueError(
        f'Stage {self.name!r} has a window of {float(self.window_seconds):g} s;'
        ' choose one above 0.'
      )
    if not rates:
      return
    step = common_period(rates.values())
    num_steps = self.window_seconds / step
    if num_steps.denominator != 1:
      below, above = math.floor(num_steps) * step, math.ceil(num_steps) * step
      nearest = ' or '.join(f'{s} s' for s in (below, above) if s > 0)
      named = ', '.join(
        f'{name!r} at {rate} Hz' for name, rate in rates.items()
      )
      raise ValueError(
        f'A window of {self.window_seconds} s does not hold a whole number of'
        f' frames of every stream of stage {self.name!r} ({named}); choose a'
        f' multiple of {step} s, such as {nearest}.'
      )


def common_period(rates_hz: Iterable[fractions.Fraction]) -> fractions.Fraction:
  """The shortest time that is a whole number of frames at every rate."""
  periods = [1 / rate for rate in rates_hz]
  # Reduced fractions: their least common multiple is lcm(tops) / gcd(bottoms).
  return fractions.Fraction(
    math.lcm(*(period.numerator for period in periods)),
    math.gcd(*(period.denominator for period in periods)),
  )
