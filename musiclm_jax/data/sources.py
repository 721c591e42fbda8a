# SPDX-License-Identifier: Apache-2.0
"""What a data set is: a list of clips, and how to load one of them.

A data set is one class with a `name`, `clips()` and `load(ref)`. It is pickled
into the processes that write a corpus (writer.py), so it holds paths and
numbers, never open files or decoded audio, and it opens what it needs inside
`load`. `clips()` is cheap (it reads tables, not audio) and gives the same list
in the same order on every machine: the corpus is written in that order.

Shapes: waveform [samples], mono, in [-1, 1], at the clip's own rate.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

TRAIN = 'train'
VALIDATION = 'validation'
TEST = 'test'

# Ours: the share of groups in each split where a data set has no own split.
SPLIT_SHARES = {TRAIN: 0.9, VALIDATION: 0.05, TEST: 0.05}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipRef:
  """Names one clip without loading it.

  Attributes:
    id: Unique within the source and stable from run to run.
    split: 'train', 'validation', 'test', or the data set's own name.
    group: What must not straddle two splits: the tune, the album, the artist.
  """

  id: str
  split: str
  group: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """One loaded clip.

  Attributes:
    waveform: float32 [samples], mono, in [-1, 1].
    sample_rate_hz: Of the waveform; the writer resamples.
    captions: Descriptions of the whole clip, any number.
    facts: What else is known of it (notes, tempo, tags), as JSON would hold it.
  """

  waveform: np.ndarray
  sample_rate_hz: int
  captions: tuple[str, ...] = ()
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.waveform.ndim != 1 or self.waveform.dtype != np.float32:
      raise ValueError(
        'A clip wants a mono float32 waveform [samples], not'
        f' {self.waveform.dtype} {list(self.waveform.shape)}; average the'
        ' channels and scale integers into [-1, 1].'
      )


@runtime_checkable
class ClipSource(Protocol):
  """A data set. Picklable; see the module's docstring."""

  @property
  def name(self) -> str:
    """Of the data set: 'tunebook', 'fma', …"""
    ...

  def clips(self) -> Sequence[ClipRef]:
    """Every clip of every split, always in the same order."""
    ...

  def load(self, ref: ClipRef) -> Clip:
    """Loads or renders one clip; raises `RejectedClip` if it has no audio."""
    ...


class RejectedClip(ValueError):
  """A clip that cannot be used. It is counted by `reason`, not fatal.

  Attributes:
    reason: A short class that counts are kept by: 'missing', 'unreadable'.
    detail: What exactly was wrong, for the one clip.
  """

  def __init__(self, reason: str, detail: str):
    super().__init__(reason, detail)
    self.reason = reason
    self.detail = detail

  def __str__(self) -> str:
    return f'{self.reason}: {self.detail}'


def split_of(group: str, *, shares: Mapping[str, float] | None = None) -> str:
  """The split of a group, drawn from its name alone.

  Adding or removing other groups moves nothing from one split to another.

  Args:
    group: Tune, album or artist; all of its clips get the same split.
    shares: Split name to share of the groups, summing to 1; `SPLIT_SHARES` if
      left out.
  """
  shares = SPLIT_SHARES if shares is None else shares
  if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
    raise ValueError(
      f'Split shares must be at least 0 and sum to 1, not {dict(shares)}.'
    )
  digest = hashlib.sha256(group.encode()).digest()
  draw = int.from_bytes(digest[:8], 'big') / 2**64
  for split, share in shares.items():
    draw -= share
    if draw < 0:
      return split
  return list(shares)[-1]
