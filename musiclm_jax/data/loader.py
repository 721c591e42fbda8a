# SPDX-License-Identifier: Apache-2.0
"""Corpus on disk → batches of crops, in an order without state.

Example number g of a run is a clip (order.Shuffle) and a place in it
(order.uniform): one random crop of every clip an epoch. Row r of global batch
b is example b * batch_size + r, so a batch is a pure function of its number and
threads may make several at once. Needs NumPy, and no TensorFlow.

Shapes: waveform [batch, samples], sample_mask [batch, samples].
"""

from __future__ import annotations

import fractions
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging
from jaxtyping import Int

from musiclm_jax import batches as batches_lib
from musiclm_jax.audio import resample
from musiclm_jax.data import corpus as corpus_lib
from musiclm_jax.data import order, prefetch
from musiclm_jax.data.augmentation import Augmentation

Batch = dict[str, np.ndarray]

# A thread reads while another waits for the disk; more gain nothing here.
_NUM_AHEAD = 4
_NUM_THREADS = 2


class AudioBatches:
  """Crops of one split of a corpus; a `BatchSource`.

  `crops='random'` shuffles every epoch anew and never ends, for training.
  `crops='fixed'` is one pass over the middle of every clip in the order of the
  corpus, for evaluation; rows beyond the last clip are masked out whole.

  A clip shorter than the window is padded with zeros, masked and counted.
  """

  def __init__(
    self,
    corpus_dir: str | pathlib.Path,
    *,
    split: str,
    window_seconds: int | float,
    batch_size: int,
    seed: int = 0,
    crops: str = 'random',
    sample_rate_hz: int | None = None,
    augmentations: Sequence[Augmentation] = (),
  ):
    """Opens the corpus; reads no audio yet.

    Args:
      corpus_dir: What `musiclm data prepare` wrote.
      split: 'train', 'validation', 'test' or the data set's own.
      window_seconds: Length of a crop, a whole number of samples.
      batch_size: Rows of a global batch.
      seed: Of order, crops and augmentation.
      crops: 'random' for training, 'fixed' for evaluation.
      sample_rate_hz: What the model wants; each crop is resampled to it. That
        of the corpus if left out, and never above it.
      augmentations: Applied to each row, in turn.
    """
    if crops not in ('random', 'fixed'):
      raise ValueError(f"crops must be 'random' or 'fixed', not {crops!r}.")
    if batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, not {batch_size}.')
    self._corpus = corpus_lib.AudioCorpus(corpus_dir)
    corpus_hz = self._corpus.sample_rate_hz
    self._sample_rate_hz = sample_rate_hz or corpus_hz
    if self._sample_rate_hz > corpus_hz:
      raise ValueError(
        f'{corpus_dir} holds audio at {corpus_hz} Hz, but {sample_rate_hz} Hz is'
        ' wanted; prepare a corpus at that rate, for what is not recorded'
        ' cannot be resampled back.'
      )
    self._clips = self._corpus.clips(split)
    self._order = order.Shuffle(num_items=len(self._clips), seed=seed)
    self._random = crops == 'random'
    self._seed = seed
    self._augmentations = tuple(augmentations)
    self._batch_size = batch_size
    self._window = _whole_samples(window_seconds, self._sample_rate_hz)
    # In samples of the corpus, as many as the last sample of the crop needs.
    self._stored_window = -(-self._window * corpus_hz // self._sample_rate_hz)
    if self.num_padded_clips:
      logging.info(
        '%s: %d of %d clips of %r are shorter than %g s; they are padded.',
        corpus_dir,
        self.num_padded_clips,
        self.num_clips,
        split,
        window_seconds,
      )

  @property
  def batch_size(self) -> int:
    return self._batch_size

  @property
  def sample_rate_hz(self) -> int:
    return self._sample_rate_hz

  @property
  def window_samples(self) -> int:
    return self._window

  @property
  def corpus(self) -> corpus_lib.AudioCorpus:
    """Where the crops are cut."""
    return self._corpus

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

  @functools.cached_property
  def num_padded_clips(self) -> int:
    """Clips of the split that are shorter than the window."""
    lengths = self._corpus.index['num_samples'][self._clips]
    return int(np.count_nonzero(lengths < self._stored_window))

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

  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""
    waveform = np.zeros((len(numbers), self._window), np.float32)
    mask = np.zeros((len(numbers), self._window), bool)
    draws = self._augmentation_draws(numbers)
    for row, (clip, place) in enumerate(self._locate(numbers)):
      if clip is None:
        continue
      samples = self._crop(clip, place)
      for augmentation, draw in zip(self._augmentations, draws[row]):
        samples = augmentation(samples, draw=float(draw))
      waveform[row, : len(samples)] = samples
      mask[row, : len(samples)] = True
    return {batches_lib.WAVEFORM: waveform, batches_lib.SAMPLE_MASK: mask}

  def clips_of(self, numbers: Int[np.ndarray, ' batch']) -> list[int | None]:
    """The clip that each example is cut from; None beyond the last."""
    return [clip for clip, _ in self._locate(numbers)]

  def _crop(self, clip: int, place: float) -> np.ndarray:
    """float32 [samples] at the wanted rate; a short clip is a short crop."""
    length = int(self._corpus.index['num_samples'][clip])
    stored = self._stored_window
    start = int(place * (max(0, length - stored) + 1))
    crop = self._corpus.read(clip, start=start, num_samples=stored)[:length]
    samples = crop.astype(np.float32) / np.float32(corpus_lib.FULL_SCALE)
    samples = resample.resample(
      samples, from_hz=self._corpus.sample_rate_hz, to_hz=self._sample_rate_hz
    )
    return samples[: self._window]

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

  def _augmentation_draws(self, numbers: np.ndarray) -> np.ndarray:
    """float64 [batch, augmentations]."""
    draws = [
      order.uniform(numbers, seed=self._seed, purpose=f'augmentation {n}')
      for n in range(len(self._augmentations))
    ]
    return np.array(draws).reshape(-1, len(numbers)).T


class Mixture:
  """Examples of several corpora by weights; a `BatchSource`.

  Each part is read in its own order, so that its epochs stay whole.
  """

  def __init__(
    self,
    parts: Sequence[AudioBatches],
    *,
    weights: Sequence[int | float],
    seed: int = 0,
  ):
    """Takes parts that agree on everything but their corpus.

    Args:
      parts: Sources of random crops; the mixture's batch size is theirs.
      weights: Relative share of the examples, one a part.
      seed: Of the order in which the parts alternate.
    """
    if len(parts) != len(weights):
      raise ValueError(f'{len(parts)} parts have {len(weights)} weights.')
    for what in ('batch_size', 'sample_rate_hz', 'window_samples'):
      values = [getattr(part, what) for part in parts]
      if len(set(values)) != 1:
        raise ValueError(f'The parts of a mixture differ in {what}: {values}.')
    if any(part.num_examples is not None for part in parts):
      raise ValueError(
        "A mixture is endless: its parts want crops='random'; evaluate on one"
        ' corpus at a time.'
      )
    self._parts = tuple(parts)
    self._interleave = order.Interleave(
      weights=tuple(float(weight) for weight in weights), seed=seed
    )

  @property
  def batch_size(self) -> int:
    return self._parts[0].batch_size

  @property
  def sample_rate_hz(self) -> int:
    return self._parts[0].sample_rate_hz

  @property
  def num_examples(self) -> None:
    """A mixture has no end."""
    return None

  def batches(
    self, start: int, *, process_index: int = 0, process_count: int = 1
  ) -> Iterator[Batch]:
    """Yields this process's rows of each global batch, from number `start`."""
    rows = order.process_rows(
      self.batch_size, process_index=process_index, process_count=process_count
    )
    return make_batches(
      self.examples, start, None, batch_size=self.batch_size, rows=rows
    )

  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""
    which, places = self._interleave.locate(numbers)
    mixed: Batch = {}
    for part in np.unique(which):
      rows = which == part
      for key, values in self._parts[part].examples(places[rows]).items():
        shape = (len(numbers), *values.shape[1:])
        mixed.setdefault(key, np.zeros(shape, values.dtype))[rows] = values
    return mixed


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


def _whole_samples(seconds: int | float, sample_rate_hz: int) -> int:
  samples = fractions.Fraction(str(seconds)) * sample_rate_hz
  if samples.denominator != 1 or samples < 1:
    raise ValueError(
      f'A window of {seconds} s is {float(samples):g} samples at'
      f' {sample_rate_hz} Hz; choose a whole number of at least 1.'
    )
  return int(samples)
