# SPDX-License-Identifier: Apache-2.0
"""What codes cost without a model: unigrams and bigrams of one level.

The baselines that a stage must beat. A unigram counts the codes of a level, one
added to each count. A bigram knows one other code besides: that of the same
level a frame before ('in time'), or that of the level before in the same frame
('in depth'). Its counts are discounted and interpolated with the unigram:
absolute discounting, Ney, Essen and Kneser (1994), section 4,
p(c | h) = max(n(h, c) - D, 0) / n(h) + D d(h) / n(h) p(c), with d(h) different
codes seen after h and D = n1 / (n1 + 2 n2) of the pairs seen once and twice.
What follows an unseen code, and what nothing precedes, costs its unigram.

Shapes: codes [frames, levels] of one clip or window, bits the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

Codes = Int[np.ndarray, 'frames levels']
Bits = Float[np.ndarray, 'frames levels']
Pairs = Int[np.ndarray, ' pairs']

UNIGRAM = 'unigram'
IN_TIME = 'bigram in time'
IN_DEPTH = 'bigram in depth'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unigram:
  """Of one level.

  Attributes:
    log2_probability: Of each code.
  """

  log2_probability: Float[np.ndarray, ' codes']

  @classmethod
  def fit(
    cls, codes: Int[np.ndarray, ' frames'], *, codebook_size: int
  ) -> Unigram:
    counts = np.bincount(codes, minlength=codebook_size) + 1
    return cls(log2_probability=np.log2(counts / counts.sum()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bigram:
  """Of one level, given one other code.

  Attributes:
    unigram: What it falls back on.
    pairs: Each pair that was seen, as context × codes + code, in order.
    counts: Of each pair.
    context_counts: How often each context was seen.
    num_followers: How many different codes came after each context.
    discount: What every pair's count is lowered by.
  """

  unigram: Unigram
  pairs: Pairs
  counts: Pairs
  context_counts: Int[np.ndarray, ' contexts']
  num_followers: Int[np.ndarray, ' contexts']
  discount: float

  @classmethod
  def fit(
    cls,
    contexts: Int[np.ndarray, ' frames'],
    codes: Int[np.ndarray, ' frames'],
    *,
    unigram: Unigram,
  ) -> Bigram:
    size = len(unigram.log2_probability)
    pairs, counts = np.unique(contexts * size + codes, return_counts=True)
    once, twice = (np.count_nonzero(counts == n) for n in (1, 2))
    return cls(
      unigram=unigram,
      pairs=pairs,
      counts=counts,
      context_counts=np.bincount(
        pairs // size, weights=counts, minlength=size
      ).astype(np.int64),
      num_followers=np.bincount(pairs // size, minlength=size),
      # Of pairs that all came thrice or more nothing is known to be missing.
      discount=once / (once + 2 * twice) if once else 0.5,
    )

  def bits(
    self,
    contexts: Int[np.ndarray, ' frames'],
    codes: Int[np.ndarray, ' frames'],
  ) -> Float[np.ndarray, ' frames']:
    """Of each code after its context."""
    below = self.unigram.log2_probability[codes]
    wanted = contexts * len(self.unigram.log2_probability) + codes
    place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
    count = np.where(self.pairs[place] == wanted, self.counts[place], 0)
    seen = self.context_counts[contexts]
    kept = np.maximum(count - self.discount, 0)
    freed = self.discount * self.num_followers[contexts]
    mixed = (kept + freed * 2.0**below) / np.maximum(seen, 1)
    return -np.where(seen > 0, np.log2(np.where(seen > 0, mixed, 1)), below)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
  """All of one stream, level by level.

  Attributes:
    unigrams: One a level.
    in_time: One a level.
    in_depth: One for each level but the first.
  """

  unigrams: tuple[Unigram, ...]
  in_time: tuple[Bigram, ...]
  in_depth: tuple[Bigram, ...]

  @classmethod
  def fit(
    cls, clips: Sequence[Int[np.ndarray, '_ levels']], *, codebook_size: int
  ) -> Baselines:
    """Counts the codes of whole clips."""
    if not clips:
      raise ValueError('There are no clips to count codes in; give at least 1.')
    whole = np.concatenate(clips).astype(np.int64)
    before = np.concatenate([clip[:-1] for clip in clips]).astype(np.int64)
    after = np.concatenate([clip[1:] for clip in clips]).astype(np.int64)
    unigrams = tuple(
      Unigram.fit(level, codebook_size=codebook_size) for level in whole.T
    )
    return cls(
      unigrams=unigrams,
      in_time=tuple(
        Bigram.fit(*pair, unigram=unigram)
        for *pair, unigram in zip(before.T, after.T, unigrams)
      ),
      in_depth=tuple(
        Bigram.fit(*pair, unigram=unigram)
        for *pair, unigram in zip(whole.T[:-1], whole.T[1:], unigrams[1:])
      ),
    )

  def bits(self, codes: Codes) -> Mapping[str, Bits]:
    """What each code of a window costs, by baseline.

    Nothing before the window is known, as it is not to a stage.
    """
    codes = codes.astype(np.int64)
    unigram = np.stack(
      [
        -model.log2_probability[level]
        for model, level in zip(self.unigrams, codes.T)
      ],
      axis=1,
    )
    in_time, in_depth = unigram.copy(), unigram.copy()
    for level, model in enumerate(self.in_time):
      in_time[1:, level] = model.bits(codes[:-1, level], codes[1:, level])
    for level, model in enumerate(self.in_depth, start=1):
      in_depth[:, level] = model.bits(codes[:, level - 1], codes[:, level])
    return {UNIGRAM: unigram, IN_TIME: in_time, IN_DEPTH: in_depth}
