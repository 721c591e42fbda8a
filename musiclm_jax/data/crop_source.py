# SPDX-License-Identifier: Apache-2.0
"""Which clip each example is cut from, and where: the order of every corpus.

Example number g of a run is a clip (order.Shuffle) and a place in it
(order.uniform): one random crop of every clip an epoch. Row r of global batch
b is example b * batch_size + r, so a batch is a pure function of its number and
threads may make several at once.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from musiclm_jax.data import order, prefetch

Batch = dict[str, np.ndarray]

# A thread reads while another waits for the disk; more gain nothing here.
_NUM_AHEAD = 4
_NUM_THREADS = 2


class CropSource(abc.ABC):
  """Crops of some clips; a `BatchSource` once `examples` reads them.

  `crops='random'` shuffles every epoch anew and never ends, for training.
  `crops='fixed'` is one pass over the middle of every clip in the order of the
  corpus, for evaluation; rows beyond the last clip are masked out whole.
  """

  def __init__(
    self,
    clips: Int[np.ndarray, ' clips'],
    *,
    batch_size: int,
    seed: int,
    crops: str,
  ):
    """Reads nothing yet.

    Args:
      clips: Their numbers in the corpus.
      batch_size: Rows of a global batch.
      seed: Of order and crops.
      crops: 'random' for training, 'fixed' for evaluation.
    """
    if crops not in ('random', 'fixed'):
      raise ValueError(f"crops must be 'random' or 'fixed', not {crops!r}.")
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, not {batch_size}.')
    self._clips = clips
    self._order = order.Shuffle(num_items=len(clips), seed=seed)
    self._random = crops == 'random'
    self._seed = seed
    self._batch_size = batch_size

  @abc.abstractmethod
  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""

  @property
  def batch_size(self) -> int:
    return self._batch_size

  @property
  def seed(self) -> int:
    return self._seed

  @property
  def is_random(self) -> bool:
    """Whether crops are drawn, without end."""
    return self._random

  @property
  def num_clips(self) -> int:
    """Clips of the split, which are the examples of one epoch."""
    return len(self._clips)

  @property
  def num_examples(self) -> int | None:
    """Of one pass over fixed crops; `None` if crops are random: no end."""
    return None if self._random else self.num_clips

  @property
  def num_batches(self) -> int | None:
    """Of one pass over fixed crops; `None` if crops are random: no end."""
    return None if self._random else -(-self.num_clips // self.batch_size)

  def batches(
    self, start: int, *, process_index: int = 0, process_count: int = 1
  ) -> Iterator[Batch]:
    """Yields this process's rows of each global batch, from number `start`."""
    rows = order.process_rows(
      self.batch_size, process_index=process_index, process_count=process_count
    )
    return make_batches(
      self.examples,
      start,
      self.num_batches,
      batch_size=self.batch_size,
      rows=rows,
    )

  def clips_of(self, numbers: Int[np.ndarray, ' batch']) -> list[int | None]:
    """The clip that each example is cut from; None beyond the last."""
    return [clip for clip, _ in self._locate(numbers)]

  def _locate(self, numbers: np.ndarray) -> list[tuple[int | None, float]]:
    """Clip (None beyond the last) and place of its crop, 0 start to 1 end."""
    if not self._random:
      return [
        (int(self._clips[n]) if n < self.num_clips else None, 0.5)
        for n in numbers
      ]
    clips = self._clips[self._order.item_at(numbers)]
    places = order.uniform(numbers, seed=self._seed, purpose='crop')
    return [(int(clip), float(place)) for clip, place in zip(clips, places)]


def make_batches(
  examples: Callable[[np.ndarray], Batch],
  start: int,
  end: int | None,
  *,
  batch_size: int,
  rows: range,
) -> Iterator[Batch]:
  """Some rows of the global batches from `start` to `end`, made ahead."""

  def make(number: int) -> Batch:
    return examples(number * batch_size + np.arange(rows.start, rows.stop))

  return prefetch.prefetch(
    make,
    itertools.count(start) if end is None else range(start, end),
    num_ahead=_NUM_AHEAD,
    num_threads=_NUM_THREADS,
  )
