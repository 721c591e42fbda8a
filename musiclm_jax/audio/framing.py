# SPDX-License-Identifier: Apache-2.0
"""Frames and windows: exact arithmetic on whole numbers, no arrays.

A *frame* is a short stretch that one feature vector or code stands for; a
*window* is a long one that a model reads at once. Frames are made on device
(`spectral.py`), windows on the host. Standard library only.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator


class Padding(enum.Enum):
  """Which samples frame i of `frame_samples`, every `hop_samples`, covers.

  Attributes:
    VALID: From i · hop on. No padding; the last samples may be in no frame.
    SAME: Centred on hop i, the samples from i · hop to (i + 1) · hop. One frame
      a hop that has begun.
    CAUSAL: Up to the end of hop i, and no later. One frame a hop that has
      begun.
  """

  VALID = 'valid'
  SAME = 'same'
  CAUSAL = 'causal'


def num_frames(
  num_samples: int, *, frame_samples: int, hop_samples: int, padding: Padding
) -> int:
  """How many frames `num_samples` samples make."""
  _require_frames(frame_samples, hop_samples)
  if padding is Padding.VALID:
    return max(0, (num_samples - frame_samples) // hop_samples + 1)
  return -(-num_samples // hop_samples)


def pad_samples(
  num_samples: int, *, frame_samples: int, hop_samples: int, padding: Padding
) -> tuple[int, int]:
  """Samples to add (before, after), so that the last frame is a whole one."""
  _require_frames(frame_samples, hop_samples)
  if padding is Padding.VALID:
    return 0, 0
  hops = -(-num_samples // hop_samples)
  spare = frame_samples - hop_samples
  before = spare if padding is Padding.CAUSAL else spare // 2
  return before, hops * hop_samples + spare - num_samples - before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
  """What a model reads at once, and which part of its result counts.

  Attributes:
    start: First frame that is read.
    stop: One past the last frame that is read.
    keep_start: First frame whose result is kept, counted as `start` is.
    keep_stop: One past the last frame whose result is kept.
  """

  start: int
  stop: int
  keep_start: int
  keep_stop: int

  @property
  def kept(self) -> slice:
    """The part that is kept, counted from the start of the window."""
    return slice(self.keep_start - self.start, self.keep_stop - self.start)


def sliding_windows(
  num_frames: int, *, window_frames: int, hop_frames: int
) -> list[Window]:
  """Windows that lie wholly inside, every `hop_frames`, all of each kept.

  MuLan reads 30 s as 21 windows of 10 s, 1 s apart. Frames after the last
  window are in none; a clip shorter than a window has no window.
  """
  _require_frames(window_frames, hop_frames)
  last = num_frames - window_frames
  return [
    Window(
      start=start,
      stop=start + window_frames,
      keep_start=start,
      keep_stop=start + window_frames,
    )
    for start in range(0, last + 1, hop_frames)
  ]


def covering_windows(
  num_frames: int, *, window_frames: int, margin_frames: int = 0
) -> list[Window]:
  """Windows whose kept parts join to the whole, each frame kept once.

  The result of a window is worse near an edge that is not an edge of the whole:
  `margin_frames` are dropped there. All windows have `window_frames`: the last
  one ends with the whole and gives up what the one before has made. Only a
  whole that is shorter than a window is read as one short window.

  Args:
    num_frames: Frames of the whole.
    window_frames: Frames that are read at once.
    margin_frames: Frames dropped at each inner edge.

  Returns:
    Windows from first to last; none if there are no frames.
  """
  if not 0 <= 2 * margin_frames < window_frames:
    raise ValueError(
      f'A window of {window_frames} frames with {margin_frames} dropped at each'
      ' inner edge keeps nothing; drop less than half of it.'
    )
  return list(_covering_windows(num_frames, window_frames, margin_frames))


def _covering_windows(
  num_frames: int, window_frames: int, margin_frames: int
) -> Iterator[Window]:
  kept = 0
  while kept < num_frames:
    start = max(0, min(kept - margin_frames, num_frames - window_frames))
    stop = min(start + window_frames, num_frames)
    keep_stop = stop if stop == num_frames else stop - margin_frames
    yield Window(start=start, stop=stop, keep_start=kept, keep_stop=keep_stop)
    kept = keep_stop


def _require_frames(frame: int, hop: int) -> None:
  if not 0 < hop <= frame:
    raise ValueError(
      f'Frames of {frame} every {hop}: both are above 0, and the hop is not'
      ' longer than the frame.'
    )
