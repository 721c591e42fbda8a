# SPDX-License-Identifier: Apache-2.0
"""Token corpus on disk → batches of aligned crops of a stage's window.

A crop starts on a whole second: all streams are cut there, and those without a
rate are looked up there. Needs NumPy, and no TensorFlow.

Shapes: codes [batch, frames, levels], frame masks [batch, frames].
"""

from __future__ import annotations

import fractions
import functools
import math
import pathlib

import numpy as np
from absl import logging
from jaxtyping import Int

from musiclm_jax import batches as batches_lib
from musiclm_jax.data.crop_source import Batch, CropSource
from musiclm_jax.data.token_corpus import TokenCorpus
from musiclm_jax.stages.spec import StageSpec
from musiclm_jax.streams import require_same_stream


class TokenBatches(CropSource):
  """Crops of one split of a token corpus; a `BatchSource`.

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
    self._corpus = TokenCorpus(corpus_dir)
    super().__init__(
      self._corpus.clips(split), batch_size=batch_size, seed=seed, crops=crops
    )
    require_streams(self._corpus, spec=spec, corpus_dir=corpus_dir)
    self._spec = spec
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
  def spec(self) -> StageSpec:
    return self._spec

  @property
  def window_seconds(self) -> fractions.Fraction:
    return self._spec.window_seconds

  @functools.cached_property
  def num_padded_clips(self) -> int:
    """Clips of the split that are shorter than the window."""
    window = self._spec.window_seconds
    return sum(self._corpus.num_seconds(clip) < window for clip in self._clips)

  def examples(self, numbers: Int[np.ndarray, ' batch']) -> Batch:
    """The examples of the given numbers, one a row."""
    places = [
      None if clip is None else (clip, self._second(clip, place))
      for clip, place in self._locate(numbers)
    ]
    return crops(self._corpus, places, spec=self._spec)

  def _second(self, clip: int, place: float) -> int:
    """The second at `place`, 0 the first that a crop may start at, 1 the last."""
    room = self._corpus.num_seconds(clip) - self._spec.window_seconds
    return int(place * (max(0, math.floor(room)) + 1))


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
