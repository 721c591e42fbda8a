# SPDX-License-Identifier: Apache-2.0
"""Which windows of a piece are decoded, and in which order.

A stage that looks back slides its window over the piece by half of it:
MusicLM (Agostinelli et al., 2023), section 3.3. The fine stage's windows do not
look at each other, so they tile the piece; the last one is the last window's
worth of it, and what it makes a second time is thrown away.

All numbers are whole: ticks or frames, as the caller counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One stretch that a sliding stage makes without moving its window.

  Attributes:
    start: Where the window begins.
    known: Up to here the piece is made; here the run begins.
    stop: Where the run ends, with the window or with the piece.
  """

  start: int
  known: int
  stop: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
  """One window of a stage whose windows do not look at each other.

  Attributes:
    start: Where the window begins.
    first: The first frame that is kept.
    stop: One past the last, where the window ends.
  """

  start: int
  first: int
  stop: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Every window of a stretch under one prompt.

  Attributes:
    semantic: Runs of the first stage, in ticks, as far as coarse windows read.
    coarse: Runs of the second stage, in ticks, as far as fine windows read.
    fine: Windows of the third stage, in frames.
  """

  semantic: tuple[Run, ...]
  coarse: tuple[Run, ...]
  fine: tuple[Tile, ...]


def kept(window: int) -> int:
  """How much of a window is the prompt of the next: half of it."""
  return window // 2


def slide(*, window: int, total: int, known: int = 0) -> Iterator[Run]:
  """The runs that make `total`, of which `known` are there.

  Windows begin at multiples of the half that is not kept, whatever the length,
  so what is made first does not depend on what is asked for later.
  """
  hop = window - kept(window)
  while known < total:
    # The first window that has room left.
    start = max(0, (known - window) // hop + 1) * hop
    stop = min(start + window, total)
    yield Run(start=start, known=known, stop=stop)
    known = stop


def tile(*, window: int, total: int, known: int = 0) -> Iterator[Tile]:
  """Windows side by side from `known` on; `total` must hold one."""
  for first in range(known, total, window):
    stop = min(first + window, total)
    yield Tile(start=stop - window, first=first, stop=stop)


def plan(
  *,
  known: int,
  stop: int,
  total: int,
  semantic_window: int,
  coarse_window: int,
  fine_window: int,
  frames_per_tick: int,
) -> Plan:
  """The windows that make `known` to `stop` of a piece of `total` ticks.

  They are the first of those that would make all of it: what is made up to
  `stop` is the same whether or not the piece is to change there. Windows of the
  first two stages are in ticks, `fine_window` is in frames.
  """
  first = known * frames_per_tick
  num_tiles = -(-(stop * frames_per_tick - first) // fine_window)
  # A piece shorter than a fine window is made as long as one.
  last = max(total * frames_per_tick, fine_window)
  frames = min(first + num_tiles * fine_window, last)
  coarse = tuple(
    slide(
      window=coarse_window, total=-(-frames // frames_per_tick), known=known
    )
  )
  semantic = slide(
    window=semantic_window, total=coarse[-1].start + coarse_window, known=known
  )
  fine = tile(window=fine_window, total=frames, known=first)
  return Plan(semantic=tuple(semantic), coarse=coarse, fine=tuple(fine))
