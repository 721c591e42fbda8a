# SPDX-License-Identifier: Apache-2.0
"""Corpus on disk → pairs of a crop and one of its texts, in the same order.

Every example draws one text: first a kind of text, by its weight among those
that the clip has, then one of that kind. MuLan (Huang et al., 2022), section
4.1: one text an example and draw; joined texts do worse. Like a crop, a draw is
a pure function of (seed, position).

A clip without a text stays where it is, with no valid token: its row is no
pair, and objectives leave it out and count it.

Shapes: [batch, samples] of audio, [batch, length] of tokens.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from musiclm_jax import batches as batches_lib
from musiclm_jax.data import corpus as corpus_lib
from musiclm_jax.data import loader, order
from musiclm_jax.data.crop_source import Batch, make_batches

# The kind of text that a clip itself has; all others are facts by their name.
CAPTIONS = 'captions'

_CACHED_CLIPS = 2**16


@runtime_checkable
class Tokenizer(Protocol):
  """Texts to ids, on the host."""

  def __call__(
    self, texts: Sequence[str], *, num_tokens: int
  ) -> tuple[Int[np.ndarray, 'batch length'], Bool[np.ndarray, 'batch length']]:
    """Ids and where they are no padding; none of an empty text."""
    ...


class PairBatches:
  """Crops with a text each; a `BatchSource`."""

  def __init__(
    self,
    audio: loader.AudioBatches,
    *,
    tokenizer: Tokenizer,
    num_tokens: int,
    mix: Mapping[str, int | float] | None = None,
  ):
    """Reads nothing yet.

    Args:
      audio: The crops. Random ones draw their texts; fixed ones have the first
        text of the first kind.
      tokenizer: Of the model that reads the texts.
      num_tokens: Columns of the ids; longer texts are cut.
      mix: Kind of text to its weight: 'captions', or the name of a fact that is
        a text ('title') or a list of them ('tags'). Captions alone if left out.
    """
    self._audio = audio
    self._tokenizer = tokenizer
    self._num_tokens = num_tokens
    self._texts = Texts(audio.corpus, mix=mix)

  @property
  def batch_size(self) -> int:
    return self._audio.batch_size

  @property
  def sample_rate_hz(self) -> int:
    return self._audio.sample_rate_hz

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
      self._audio.num_batches,
      batch_size=self.batch_size,
      rows=rows,
    )

  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""
    tokens, mask = self._tokenizer(
      self.texts(numbers), num_tokens=self._num_tokens
    )
    return {
      **self._audio.examples(numbers),
      batches_lib.TEXT_TOKENS: tokens,
      batches_lib.TEXT_MASK: mask,
    }

  def texts(self, numbers: Int[np.ndarray, ' batch']) -> list[str]:
    """The text of each example; '' where there is none."""
    draws = np.zeros((2, len(numbers)))
    if self._audio.is_random:
      draws = [
        order.uniform(numbers, seed=self._audio.seed, purpose=purpose)
        for purpose in ('kind of text', 'text')
      ]
    return [
      '' if clip is None else self._texts.draw(clip, kind=kind, which=which)
      for clip, kind, which in zip(self._audio.clips_of(numbers), *draws)
    ]


class Texts:
  """The texts of each clip of a corpus, by kind."""

  def __init__(
    self,
    corpus: corpus_lib.AudioCorpus,
    *,
    mix: Mapping[str, int | float] | None = None,
  ):
    self._corpus = corpus
    self._mix = {CAPTIONS: 1} if mix is None else dict(mix)
    if not self._mix or min(self._mix.values()) <= 0:
      raise ValueError(
        f'The mix of texts is {self._mix}; give each kind a weight above 0.'
      )
    # Descriptions hold notes and more, and are read again every epoch.
    self._of = functools.lru_cache(maxsize=_CACHED_CLIPS)(self._read)

  def draw(
    self, clip: corpus_lib.ClipNumber, *, kind: float, which: float
  ) -> str:
    """A text by two numbers in [0, 1); '' if the clip has none."""
    by_kind = self._of(int(clip))
    if not by_kind:
      return ''
    weights = np.cumsum([self._mix[name] for name in by_kind])
    chosen = np.searchsorted(weights, kind * weights[-1], side='right')
    texts = list(by_kind.values())[chosen]
    return texts[int(which * len(texts))]

  def all_of(self, clip: corpus_lib.ClipNumber) -> tuple[str, ...]:
    """Every text of a clip, of all kinds."""
    return sum(self._of(int(clip)).values(), ())

  def _read(self, clip: int) -> dict[str, tuple[str, ...]]:
    """Texts that are not blank, of the kinds that have any."""
    described = self._corpus.describe(clip)
    found = {
      kind: described.captions
      if kind == CAPTIONS
      else _as_texts(described.facts.get(kind))
      for kind in self._mix
    }
    kept = {
      kind: tuple(text for text in texts if text.strip())
      for kind, texts in found.items()
    }
    return {kind: texts for kind, texts in kept.items() if texts}


def corpus_texts(
  corpus_dir: str | pathlib.Path,
  *,
  split: str,
  mix: Mapping[str, int | float] | None = None,
) -> list[str]:
  """Every text of a split, for learning a vocabulary."""
  corpus = corpus_lib.AudioCorpus(corpus_dir)
  texts = Texts(corpus, mix=mix)
  found = [text for clip in corpus.clips(split) for text in texts.all_of(clip)]
  if not found:
    raise ValueError(
      f'No clip of {split!r} in {corpus_dir} has a text of the kinds'
      f' {list(mix or {CAPTIONS: 1})}; name others, or add captions.'
    )
  return found


def _as_texts(fact: object) -> tuple[str, ...]:
  """A fact as texts: a list of words is one text."""
  if isinstance(fact, str):
    return (fact,)
  if isinstance(fact, Sequence):
    return (', '.join(str(item) for item in fact),)
  return ()
