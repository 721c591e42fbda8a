# SPDX-License-Identifier: Apache-2.0
"""Counts and times of a server, in Prometheus' text format 0.0.4.

Written by the event loop's thread alone.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)
_ROWS = (1, 2, 4, 8, 16, 32)


class Histogram:
  """How often a value was at most each of some bounds."""

  def __init__(self, bounds: Sequence[int | float]):
    self._counts = dict.fromkeys((*bounds, float('inf')), 0)
    self.sum = 0.0

  @property
  def count(self) -> int:
    """Values so far."""
    return self._counts[float('inf')]

  def add(self, value: int | float) -> None:
    """Counts one value."""
    self.sum += value
    for bound in self._counts:
      self._counts[bound] += value <= bound

  def lines(self, name: str) -> Iterator[str]:
    """As Prometheus wants them."""
    for bound, count in self._counts.items():
      label = '+Inf' if bound == float('inf') else f'{bound:g}'
      yield f'{name}_bucket{{le="{label}"}} {count}'
    yield f'{name}_sum {self.sum:.6f}'
    yield f'{name}_count {self.count}'


@dataclasses.dataclass(kw_only=True)
class Metrics:
  """What a server has done.

  Attributes:
    requests: Answers to /generate by HTTP status; 499 where the client went
      away first.
    latency: Seconds from a request's arrival to the end of its answer.
    first_audio: Seconds until the first audio of a request was made.
    batch_rows: Rows of a batch that somebody asked for.
    batch_seconds: Of making one batch.
    audio_seconds: Audio that was made for somebody.
  """

  requests: collections.Counter[int] = dataclasses.field(
    default_factory=collections.Counter
  )
  latency: Histogram = dataclasses.field(
    default_factory=lambda: Histogram(_SECONDS)
  )
  first_audio: Histogram = dataclasses.field(
    default_factory=lambda: Histogram(_SECONDS)
  )
  batch_rows: Histogram = dataclasses.field(
    default_factory=lambda: Histogram(_ROWS)
  )
  batch_seconds: Histogram = dataclasses.field(
    default_factory=lambda: Histogram(_SECONDS)
  )
  audio_seconds: float = 0.0

  def text(self, gauges: Mapping[str, int]) -> str:
    """All of it, with what holds at the moment."""
    lines = ['# TYPE musiclm_requests_total counter']
    lines += [
      f'musiclm_requests_total{{status="{status}"}} {count}'
      for status, count in sorted(self.requests.items())
    ]
    lines += [
      '# TYPE musiclm_audio_seconds_total counter',
      f'musiclm_audio_seconds_total {self.audio_seconds:.6f}',
    ]
    for name, value in gauges.items():
      lines += [f'# TYPE musiclm_{name} gauge', f'musiclm_{name} {value}']
    histograms = {
      'request_seconds': self.latency,
      'first_audio_seconds': self.first_audio,
      'batch_rows': self.batch_rows,
      'batch_seconds': self.batch_seconds,
    }
    for name, histogram in histograms.items():
      lines.append(f'# TYPE musiclm_{name} histogram')
      lines += histogram.lines(f'musiclm_{name}')
    return '\n'.join(lines) + '\n'
