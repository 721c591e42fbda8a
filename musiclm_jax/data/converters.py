# SPDX-License-Identifier: Apache-2.0
"""SeqIO feature converters: what a task yields → what a model is fed.

Shapes: waveform [samples], sample_mask [samples], codes [frames, levels],
tokens [length]; SeqIO adds the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seqio
import tensorflow as tf

from musiclm_jax import batches as batches_lib
from musiclm_jax.stages.layout import StageLayout

_Lengths = Mapping[str, int]


class AudioConverter(seqio.FeatureConverter):
  """A waveform of any length → one of the window's, and its mask.

  The length of feature 'waveform', in samples, is the window's.
  """

  TASK_FEATURES = {
    batches_lib.WAVEFORM: seqio.FeatureConverter.FeatureSpec(
      dtype=tf.float32, rank=1
    )
  }
  MODEL_FEATURES = {
    batches_lib.WAVEFORM: seqio.FeatureConverter.FeatureSpec(
      dtype=tf.float32, rank=1
    ),
    batches_lib.SAMPLE_MASK: seqio.FeatureConverter.FeatureSpec(
      dtype=tf.bool, rank=1
    ),
  }
  PACKING_FEATURE_DTYPES = None

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: _Lengths
  ) -> tf.data.Dataset:
    """Marks what is there, then pads both; SeqIO does not pad by itself."""

    @tf.autograph.experimental.do_not_convert
    def mark(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      waveform = features[batches_lib.WAVEFORM]
      return {
        batches_lib.WAVEFORM: waveform,
        batches_lib.SAMPLE_MASK: tf.ones_like(waveform, tf.bool),
      }

    lengths = self.get_model_feature_lengths(task_feature_lengths)
    return self._pack_or_pad(ds.map(mark), lengths)

  def get_model_feature_lengths(
    self, task_feature_lengths: _Lengths
  ) -> _Lengths:
    window = task_feature_lengths[batches_lib.WAVEFORM]
    return {batches_lib.WAVEFORM: window, batches_lib.SAMPLE_MASK: window}


def task_feature_lengths(layout: StageLayout) -> _Lengths:
  """Frames of each stream in the window of the stage."""
  spec = layout.spec
  return {
    batches_lib.codes_key(name): stream.num_frames(spec.window_seconds)
    for name, stream in spec.streams.items()
  }


class StageConverter(seqio.FeatureConverter):
  """Codes of a stage's streams → its row, and where a loss is taken.

  The lengths of the task's features are those of the stage's window:
  `task_feature_lengths`.
  """

  TASK_FEATURES: Mapping[str, seqio.FeatureConverter.FeatureSpec] = {}
  MODEL_FEATURES = {
    batches_lib.TOKENS: seqio.FeatureConverter.FeatureSpec(
      dtype=tf.int32, rank=1
    ),
    batches_lib.LOSS_MASK: seqio.FeatureConverter.FeatureSpec(
      dtype=tf.bool, rank=1
    ),
  }
  PACKING_FEATURE_DTYPES = None

  def __init__(
    self,
    layout: StageLayout,
    *,
    pack: bool = False,
    use_custom_packing_ops: bool = False,
  ):
    """The features are those of the streams of `layout.spec`.

    Rows are never packed: t5x says so by the last two, and SeqIO refuses other.
    """
    self._layout = layout
    self.TASK_FEATURES = {
      name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32, rank=2)
      for name in task_feature_lengths(layout)
    }
    super().__init__(pack=pack, use_custom_packing_ops=use_custom_packing_ops)

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: _Lengths
  ) -> tf.data.Dataset:
    """Rows as the layout packs them; what a short clip lacks is padding."""

    def row(*features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      codes, masks = {}, {}
      lengths = task_feature_lengths.values()
      for name, given, length in zip(
        self._layout.spec.streams, features, lengths
      ):
        codes[name] = np.pad(given, ((0, length - len(given)), (0, 0)))[None]
        masks[name] = np.arange(length)[None] < len(given)
      tokens = self._layout.pack(codes, frame_masks=masks)
      return tokens[0], self._layout.loss_mask(tokens)[0]

    @tf.autograph.experimental.do_not_convert
    def convert(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      values = tf.numpy_function(
        row,
        [features[name] for name in self.TASK_FEATURES],
        [tf.int32, tf.bool],
        stateful=False,
      )
      return {
        name: tf.ensure_shape(value, [self._layout.length])
        for name, value in zip(self.MODEL_FEATURES, values)
      }

    return ds.map(convert)

  def get_model_feature_lengths(
    self, task_feature_lengths: _Lengths
  ) -> _Lengths:
    return dict.fromkeys(self.MODEL_FEATURES, self._layout.length)
