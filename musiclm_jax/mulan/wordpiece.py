# SPDX-License-Identifier: Apache-2.0
"""WordPiece: texts to token ids, and how a small vocabulary is learnt.

Splitting is BERT's (Devlin et al., 2019, section 4.1, and its released code)
and done by the `tokenizers` library: clean, lower-case, split off punctuation,
then the longest known piece at a time; '##' marks a piece inside a word.
Learning is byte-pair merging (Sennrich et al., "Neural Machine Translation of
Rare Words with Subword Units", 2016, section 3.2). Ours in place of the
library's trainer, whose order of ids changes from process to process.

On the host alone. Shapes: [batch, length] ids and mask; length = tokens.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import heapq
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tokenizers
from jaxtyping import Bool, Int
from tokenizers import models, normalizers, pre_tokenizers, processors

PAD, UNKNOWN, CLS, SEP, MASK = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
SPECIAL = (PAD, UNKNOWN, CLS, SEP, MASK)

_INSIDE = '##'


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPiece:
  """A vocabulary, and how a text is cleaned before it is split.

  Attributes:
    tokens: The pieces, in the order of their ids.
    lowercase: Whether case and accents are taken off.
  """

  tokens: tuple[str, ...]
  lowercase: bool = True

  def __post_init__(self):
    missing = [token for token in SPECIAL[:-1] if token not in self.tokens]
    if missing:
      raise ValueError(f'The vocabulary lacks the special tokens {missing}.')
    if len(set(self.tokens)) != len(self.tokens):
      raise ValueError('The vocabulary holds a token twice.')

  def __call__(
    self, texts: Sequence[str], *, num_tokens: int
  ) -> tuple[Int[np.ndarray, 'batch length'], Bool[np.ndarray, 'batch length']]:
    """Ids and where they are no padding; long texts are cut.

    Args:
      texts: Any number; an empty one has no valid token at all.
      num_tokens: Columns, [CLS] and [SEP] included.
    """
    ids = np.full((len(texts), num_tokens), self._pad_id, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, text in enumerate(texts):
      if text.strip():
        found = self.ids(text)
        if len(found) > num_tokens:  # A text that is cut keeps its [SEP].
          found = [*found[: num_tokens - 1], found[-1]]
        ids[row, : len(found)] = found
        mask[row, : len(found)] = True
    return ids, mask

  def ids(self, text: str) -> list[int]:
    """All ids of one text, [CLS] and [SEP] included."""
    return self._tokenizer.encode(text).ids

  @property
  def _pad_id(self) -> int:
    return self.tokens.index(PAD)

  @functools.cached_property
  def _tokenizer(self) -> tokenizers.Tokenizer:
    ids = {token: number for number, token in enumerate(self.tokens)}
    tokenizer = tokenizers.Tokenizer(
      models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100)
    )
    tokenizer.normalizer = _normalizer(lowercase=self.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
      (SEP, ids[SEP]), (CLS, ids[CLS])
    )
    return tokenizer


def train(
  texts: Iterable[str], *, num_tokens: int, lowercase: bool = True
) -> WordPiece:
  """Learns a vocabulary; the same texts give the same one, in any order.

  Args:
    texts: What it is to write with few pieces.
    num_tokens: Its size at most, special tokens included.
    lowercase: Whether case and accents are taken off.
  """
  words = _count_words(texts, lowercase=lowercase)
  letters = {piece for word in words for piece in _letters(word)}
  tokens = [*SPECIAL, *sorted(letters)]
  if len(tokens) > num_tokens:
    raise ValueError(
      f'The texts have {len(letters)} letters, in and at the start of words, and'
      f' a vocabulary of {num_tokens} with {len(SPECIAL)} special tokens has no'
      ' room for them; raise num_tokens.'
    )
  merges = _Merges(words)
  known = set(tokens)
  while len(tokens) < num_tokens and (piece := merges.next()) is not None:
    if piece not in known:
      known.add(piece)
      tokens.append(piece)
  return WordPiece(tokens=tuple(tokens), lowercase=lowercase)


def _normalizer(*, lowercase: bool) -> normalizers.BertNormalizer:
  return normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=True, lowercase=lowercase
  )


def _count_words(texts: Iterable[str], *, lowercase: bool) -> dict[str, int]:
  normalizer = _normalizer(lowercase=lowercase)
  splitter = pre_tokenizers.BertPreTokenizer()
  counts = collections.Counter()
  for text in texts:
    cleaned = normalizer.normalize_str(text)
    counts.update(word for word, _ in splitter.pre_tokenize_str(cleaned))
  return dict(sorted(counts.items()))


def _letters(word: str) -> tuple[str, ...]:
  return (word[0], *(_INSIDE + letter for letter in word[1:]))


class _Merges:
  """Words as pieces, of which the commonest two neighbours become one.

  Ties go to the pair that comes first in the alphabet.
  """

  def __init__(self, words: Mapping[str, int]):
    self._counts = list(words.values())
    self._words = [list(_letters(word)) for word in words]
    self._pairs = collections.Counter()
    self._where = collections.defaultdict(set)
    for number in range(len(self._words)):
      self._add(number, sign=1)
    self._heap = [(-count, pair) for pair, count in self._pairs.items()]
    heapq.heapify(self._heap)

  def next(self) -> str | None:
    """Merges one pair everywhere; None when every word is one piece."""
    while self._heap:
      negative, pair = heapq.heappop(self._heap)
      # Counts change after they are pushed; the last one pushed is right.
      if self._pairs[pair] == -negative > 0:
        return self._merge(pair)
    return None

  def _merge(self, pair: tuple[str, str]) -> str:
    merged = pair[0] + pair[1].removeprefix(_INSIDE)
    changed = set()
    for number in sorted(self._where.pop(pair)):
      changed |= self._add(number, sign=-1)
      pieces, place = self._words[number], 0
      while place < len(pieces) - 1:
        if (pieces[place], pieces[place + 1]) == pair:
          pieces[place : place + 2] = [merged]
        place += 1
      changed |= self._add(number, sign=1)
    for other in changed:
      heapq.heappush(self._heap, (-self._pairs[other], other))
    return merged

  def _add(self, number: int, *, sign: int) -> set[tuple[str, str]]:
    """Counts the pairs of a word, or takes them off; gives them."""
    pieces = self._words[number]
    pairs = list(zip(pieces, pieces[1:]))
    for pair in pairs:
      self._pairs[pair] += sign * self._counts[number]
      if sign > 0:
        self._where[pair].add(number)
    return set(pairs)
