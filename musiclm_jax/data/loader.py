# SPDX-License-Identifier: Apache-2.0
"""Corpus on disk → batches of crops of audio, in an order without state.

Needs NumPy, and no TensorFlow.

Shapes: waveform [batch, samples], sample_mask [batch, samples].
"""

from __future__ import annotations

import fractions
import functools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging
from jaxtyping import Int

from musiclm_jax import batches as batches_lib
from musiclm_jax.audio import resample
from musiclm_jax.data import corpus as corpus_lib
from musiclm_jax.data import order
from musiclm_jax.data.augmentation import Augmentation
from musiclm_jax.data.crop_source import Batch, CropSource, make_batches


class AudioBatches(CropSource):
  """Crops of one split of a corpus; a `BatchSource`.

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
    self._corpus = corpus_lib.AudioCorpus(corpus_dir)
    super().__init__(
      self._corpus.clips(split), batch_size=batch_size, seed=seed, crops=crops
    )
    corpus_hz = self._corpus.sample_rate_hz
    self._sample_rate_hz = sample_rate_hz or corpus_hz
    if self._sample_rate_hz > corpus_hz:
      raise ValueError(
        f'{corpus_dir} holds audio at {corpus_hz} Hz, but {sample_rate_hz} Hz is'
        ' wanted; prepare a corpus at that rate, for what is not recorded'
        ' cannot be resampled back.'
      )
    self._augmentations = tuple(augmentations)
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
  def sample_rate_hz(self) -> int:
    return self._sample_rate_hz

  @property
  def window_samples(self) -> int:
    return self._window

  @property
  def corpus(self) -> corpus_lib.AudioCorpus:
    """Where the crops are cut."""
    return self._corpus

  @functools.cached_property
  def num_padded_clips(self) -> int:
    """Clips of the split that are shorter than the window."""
    lengths = self._corpus.index['num_samples'][self._clips]
    return int(np.count_nonzero(lengths < self._stored_window))

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


def _whole_samples(seconds: int | float, sample_rate_hz: int) -> int:
  samples = fractions.Fraction(str(seconds)) * sample_rate_hz
  if samples.denominator != 1 or samples < 1:
    raise ValueError(
      f'A window of {seconds} s is {float(samples):g} samples at'
      f' {sample_rate_hz} Hz; choose a whole number of at least 1.'
    )
  return int(samples)
