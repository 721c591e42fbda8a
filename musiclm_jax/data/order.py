# SPDX-License-Identifier: Apache-2.0
"""Which example comes when: a pure function of (seed, position).

Nothing here has state. Example number i of a run is found in constant time and
memory, whatever the corpus' size, so that any process can compute any row of
any batch, and a restart is the same function of a larger number.

- `Shuffle`: each epoch visits every item once. A keyed Feistel network is a
  permutation of a power of two; positions that fall outside the corpus walk
  their cycle until they are inside ("Ciphers with Arbitrary Finite Domains",
  Black and Rogaway, 2002). Nothing is materialised.
- `Interleave`: several corpora by weights, in blocks that hold each corpus
  exactly as often as its weight says, shuffled inside.
- `uniform`: a number in [0, 1) for one example, for crops and augmentation.

Shapes: every function maps integers [...] to arrays of the same shape.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

Positions = Int[np.ndarray, '*shape']

# Ours. Four rounds suffice in theory; more cost nothing beside reading audio
# and keep tiny corpora well mixed.
_NUM_ROUNDS = 8

# Ours: the block of an interleave. A weight is met to 1 part in 1,024.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shuffle:
  """A fresh permutation of `num_items` for every epoch.

  Attributes:
    num_items: Items in the corpus, at least 1.
    seed: Another seed, another order.
  """

  num_items: int
  seed: int

  def __post_init__(self):
    if self.num_items < 1:
      raise ValueError(f'Nothing to shuffle: {self.num_items} items.')

  def item_at(self, positions: Positions) -> Positions:
    """The item that stands at each position of the endless stream."""
    positions = np.asarray(positions, np.int64)
    epochs, places = np.divmod(positions, self.num_items)
    items = np.empty_like(places)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      keys = _round_keys(self.seed, int(epoch))
      items[here] = _permute(places[here], keys=keys, size=self.num_items)
    return items


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interleave:
  """Which of several endless streams each position reads, and where in it.

  Every stream is read from its own start without gaps, so its epochs stay
  whole whatever the weights.

  Attributes:
    weights: Relative, one a stream, each above 0.
    seed: Of the shuffle inside the blocks.
  """

  weights: tuple[float, ...]
  seed: int

  def __post_init__(self):
    if not self.weights or min(self.counts) < 1:
      raise ValueError(
        f'Weights {self.weights} of an interleave must each be above 1 part in'
        f' {_BLOCK} of their sum; leave the smallest corpus out or raise it.'
      )

  @functools.cached_property
  def counts(self) -> tuple[int, ...]:
    """Of each stream in one block, by largest remainders."""
    shares = np.asarray(self.weights) / np.sum(self.weights) * _BLOCK
    counts = np.floor(shares).astype(int)
    largest_first = np.argsort(counts - shares, kind='stable')
    counts[largest_first[: _BLOCK - counts.sum()]] += 1
    return tuple(int(count) for count in counts)

  def locate(self, positions: Positions) -> tuple[Positions, Positions]:
    """Stream number and position in that stream, of each position."""
    positions = np.asarray(positions, np.int64)
    blocks, slots = np.divmod(positions, _BLOCK)
    streams = np.empty_like(positions)
    places = np.empty_like(positions)
    for block in np.unique(blocks):
      here = blocks == block
      stream_of, rank_of = self._block(int(block))
      streams[here] = stream_of[slots[here]]
      places[here] = rank_of[slots[here]]
    places += blocks * np.asarray(self.counts)[streams]
    return streams, places

  def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every slot of a block: its stream, and earlier slots of that stream."""
    ordered = np.repeat(np.arange(len(self.counts)), self.counts)
    keys = _round_keys(self.seed, block)
    shuffled = _permute(np.arange(_BLOCK), keys=keys, size=_BLOCK)
    streams = ordered[shuffled]
    ranks = np.empty_like(streams)
    for stream in range(len(self.counts)):
      here = streams == stream
      ranks[here] = np.arange(np.count_nonzero(here))
    return streams, ranks


def uniform(
  positions: Positions, *, seed: int, purpose: str
) -> Float64[np.ndarray, '*shape']:
  """float64 in [0, 1), one a position; other purposes draw independently."""
  key = _key(seed, zlib.crc32(purpose.encode()))
  words = _mix(np.asarray(positions, np.uint64), key)
  return (words >> np.uint64(11)).astype(np.float64) / 2.0**53


def process_rows(
  batch_size: int, *, process_index: int, process_count: int
) -> range:
  """The rows of a global batch that one process reads: an equal, own run."""
  if not 0 <= process_index < process_count:
    raise ValueError(
      f'process_index {process_index} is not in [0, {process_count}).'
    )
  if batch_size % process_count:
    raise ValueError(
      f'A global batch of {batch_size} does not divide over {process_count}'
      f' processes; choose a multiple of {process_count}.'
    )
  rows = batch_size // process_count
  return range(process_index * rows, (process_index + 1) * rows)


def _permute(
  places: np.ndarray, *, keys: Sequence[int], size: int
) -> np.ndarray:
  """A permutation of range(size), at the given places."""
  # At least 2**6: in a smaller network a few permutations are far likelier.
  half_bits = max(3, -(-(size - 1).bit_length() // 2))
  values = places.astype(np.uint64)
  outside = np.ones(values.shape, bool)
  while outside.any():
    values[outside] = _feistel(values[outside], keys=keys, half_bits=half_bits)
    outside = values >= size
  return values.astype(np.int64)


def _feistel(
  values: np.ndarray, *, keys: Sequence[int], half_bits: int
) -> np.ndarray:
  """A permutation of range(4**half_bits)."""
  shift = np.uint64(half_bits)
  low = np.uint64(2**half_bits - 1)
  left, right = values >> shift, values & low
  for key in keys:
    left, right = right, left ^ (_mix(right, key) & low)
  return (left << shift) | right


def _mix(values: np.ndarray, key: int) -> np.ndarray:
  """SplitMix64's finaliser of value + key (Steele et al., 2014)."""
  words = values + np.uint64(key)  # Unsigned arrays wrap around, as it wants.
  words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return words ^ (words >> np.uint64(31))


def _key(*numbers: int) -> int:
  """64 bits that depend on every number."""
  text = ','.join(str(number) for number in numbers).encode()
  return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), 'big')


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
  return tuple(_key(seed, epoch, number) for number in range(_NUM_ROUNDS))
