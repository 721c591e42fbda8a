# SPDX-License-Identifier: Apache-2.0
"""Token corpus on disk → batches of aligned crops of a stage's window.

Example number g of a run is a clip and a whole second in it, drawn as the audio
loader draws them: a batch is a pure function of its number. All streams are cut
at the same second, and those without a rate are looked up there. Needs NumPy,
and no TensorFlow.

Shapes: codes [batch, frames, levels], frame masks [batch, frames].
"""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import logging
from jaxtyping import Int

from musiclm_jax import batches as batches_lib
from musiclm_jax.data import loader, order
from musiclm_jax.data.corpus import ClipNumber
from musiclm_jax.data.token_corpus import TokenCorpus
from musiclm_jax.stages.spec import StageSpec
from musiclm_jax.streams import require_same_stream

Batch = dict[str, np.ndarray]


class TokenBatches:
  """Crops of one split of a token corpus; a `BatchSource`.

  `crops='random'` shuffles every epoch anew and never ends, for training: one
  crop of every clip an epoch. `crops='fixed'` is one pass over the middle of
  every clip in the order of the corpus, for evaluation; rows beyond the last
  clip are masked out whole.

  A clip shorter than the window is padded, masked and counted.
  """

  def __init__(
    self,
    corpus_dir: str | pathlib.Path,
    *,
    spec: StageSpec,
    split: str,
    batch_size: int,
    seed: int = 0,
    crops: str = 'random',
  ):
    """Opens the corpus; reads no codes yet.

    Args:
      corpus_dir: What `musiclm tokenize` wrote.
      spec: The stage: its streams, which must be the corpus' own, and window.
      split: 'train', 'validation', 'test' or the data set's own.
      batch_size: Rows of a global batch.
      seed: Of order and crops.
      crops: 'random' for training, 'fixed' for evaluation.
    """
    if crops not in ('random', 'fixed'):
      raise ValueError(f"crops must be 'random' or 'fixed', not {crops!r}.")
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, not {batch_size}.')
    self._corpus = TokenCorpus(corpus_dir)
    require_streams(self._corpus, spec=spec, corpus_dir=corpus_dir)
    self._spec = spec
    self._clips = self._corpus.clips(split)
    self._order = order.Shuffle(num_items=len(self._clips), seed=seed)
    self._random = crops == 'random'
    self._seed = seed
    self._batch_size = batch_size
    if self.num_padded_clips:
      logging.info(
        '%s: %d of %d clips of %r are shorter than %g s; they are padded.',
        corpus_dir,
        self.num_padded_clips,
        self.num_clips,
        split,
        spec.window_seconds,
      )

  @property
  def batch_size(self) -> int:
    return self._batch_size

  @property
  def spec(self) -> StageSpec:
    return self._spec

  @property
  def num_clips(self) -> int:
    """Clips of the split, which are the examples of one epoch."""
    return len(self._clips)

  @functools.cached_property
  def num_padded_clips(self) -> int:
    """Clips of the split that are shorter than the window."""
    window = self._spec.window_seconds
    return sum(self._corpus.num_seconds(clip) < window for clip in self._clips)

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
    return loader.make_batches(
      self.examples,
      start,
      self.num_batches,
      batch_size=self.batch_size,
      rows=rows,
    )

  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""
    return crops(self._corpus, self._locate(numbers), spec=self._spec)

  def _locate(self, numbers: np.ndarray) -> list[tuple[int, int] | None]:
    """Clip and first second of each crop; None beyond the last clip."""
    if not self._random:
      return [
        self._place(self._clips[n], 0.5) if n < self.num_clips else None
        for n in numbers
      ]
    clips = self._clips[self._order.item_at(numbers)]
    places = order.uniform(numbers, seed=self._seed, purpose='crop')
    return [self._place(clip, place) for clip, place in zip(clips, places)]

  def _place(
    self, clip: ClipNumber, place: float | np.floating
  ) -> tuple[int, int]:
    """The second at `place`, 0 the first that a crop may start at, 1 the last."""
    room = self._corpus.num_seconds(clip) - self._spec.window_seconds
    return int(clip), int(place * (max(0, math.floor(room)) + 1))


def crops(
  corpus: TokenCorpus, places: list[tuple[int, int] | None], *, spec: StageSpec
) -> Batch:
  """The windows at (clip, second), one a row; a row of None is masked whole."""
  batch = {}
  for name, stream in spec.streams.items():
    shape = (len(places), stream.num_frames(spec.window_seconds))
    batch[batches_lib.codes_key(name)] = np.zeros(
      (*shape, stream.num_codebooks), np.int32
    )
    batch[batches_lib.frame_mask_key(name)] = np.zeros(shape, bool)
  for row, place in enumerate(places):
    if place is None:
      continue
    clip, second = place
    window = corpus.read(
      clip,
      start_second=second,
      window_seconds=spec.window_seconds,
      streams=spec.streams,
    )
    for name, codes in window.items():
      batch[batches_lib.codes_key(name)][row, : len(codes)] = codes
      batch[batches_lib.frame_mask_key(name)][row, : len(codes)] = True
  return batch


def require_streams(
  corpus: TokenCorpus, *, spec: StageSpec, corpus_dir: str | pathlib.Path
) -> None:
  """Raises unless the corpus holds the streams of the stage, and its window."""
  for name, stream in spec.streams.items():
    if name not in corpus.streams:
      raise ValueError(
        f'Stage {spec.name!r} wants codes of {name!r} and {corpus_dir} has'
        f' {", ".join(corpus.streams)}; tokenize with a model that makes them.'
      )
    require_same_stream(
      wanted=stream,
      got=corpus.streams[name],
      remedy=f'{corpus_dir} was made by other models than stage'
      f' {spec.name!r} was declared for: give the corpus that it was, or'
      ' tokenize again with those models.',
    )
    if stream.rate_hz is None:
      corpus.condition_index(spec.window_seconds)
