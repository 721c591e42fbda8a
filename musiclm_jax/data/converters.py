# SPDX-License-Identifier: Apache-2.0
"""SeqIO feature converters: what a task yields → what a model is fed.

Shapes: waveform [samples], sample_mask [samples]; SeqIO adds the batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio
import tensorflow as tf

from musiclm_jax import batches as batches_lib

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
