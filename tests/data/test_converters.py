# SPDX-License-Identifier: Apache-2.0
"""The converter pads to the window and marks what is there."""

import numpy as np
import pytest

pytest.importorskip('seqio')

pytestmark = pytest.mark.slow


def test_a_waveform_is_padded_to_the_window_and_masked():
  import tensorflow as tf

  from musiclm_jax.data import converters

  waveforms = [np.ones(3, np.float32), np.full(7, 0.5, np.float32)]
  dataset = tf.data.Dataset.from_generator(
    lambda: ({'waveform': waveform} for waveform in waveforms),
    output_signature={'waveform': tf.TensorSpec([None], tf.float32)},
  )
  converted = converters.AudioConverter(pack=False)(dataset, {'waveform': 7})
  short, whole = converted.as_numpy_iterator()
  np.testing.assert_array_equal(short['waveform'], [1, 1, 1, 0, 0, 0, 0])
  np.testing.assert_array_equal(short['sample_mask'], [True] * 3 + [False] * 4)
  np.testing.assert_array_equal(whole['waveform'], waveforms[1])
  assert whole['sample_mask'].all()
