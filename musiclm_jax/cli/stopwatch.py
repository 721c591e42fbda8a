# SPDX-License-Identifier: Apache-2.0
"""How long a command took until it had something to show, and compiling of it.

JAX tells when it traces, lowers and compiles a program, or reads a compiled one
from disk; all of that is compiling here. A program that is traced within
another is not counted twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

_COMPILING = '/jax/core/compile/'  # What such events begin with.


class Stopwatch:
  """Runs from when it is made.

  Attributes:
    marks: By name, the `seconds` that it took, and those of them `compiling`.
  """

  def __init__(self):
    self.marks: dict[str, Mapping[str, float]] = {}
    self._started = time.perf_counter()
    self._spans: list[tuple[float, float]] = []  # Apart, in order of time.

  def mark(self, name: str) -> None:
    """Notes the time; of several times of one name, the first."""
    compiling = sum(stop - start for start, stop in self._spans)
    seconds = time.perf_counter() - self._started
    self.marks.setdefault(
      name, {'seconds': round(seconds, 3), 'compiling': round(compiling, 3)}
    )

  def __str__(self) -> str:
    return '; '.join(
      f'{name.replace("_", " ")} after {mark["seconds"]:.1f} s, of which'
      f' {mark["compiling"]:.1f} s compiling'
      for name, mark in self.marks.items()
    )

  @contextlib.contextmanager
  def watching(self) -> Iterator[None]:
    """Within, compiling is noticed."""
    from jax import monitoring  # Late, and on the watch.

    monitoring.register_event_time_span_listener(self._told)
    try:
      yield
    finally:
      monitoring.unregister_event_time_span_listener(self._told)

  def _told(self, event: str, start: float, stop: float, **_: Any) -> None:
    if not event.startswith(_COMPILING):
      return
    # What lies within ended before.
    while self._spans and self._spans[-1][0] >= start:
      self._spans.pop()
    self._spans.append((start, stop))
