# SPDX-License-Identifier: Apache-2.0
"""Beside a tiny SavedModel that is called as TRILL is."""

import numpy as np
import pytest

from musiclm_jax.evaluation.embedders import base, trill


def _save(folder, *, output: str) -> None:
  """Mean and greatest of each frame of 4,000 samples."""
  import tensorflow as tf

  class Tiny(tf.Module):
    @tf.function(
      input_signature=[
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([], tf.int32),
      ]
    )
    def __call__(self, samples, sample_rate):
      with tf.control_dependencies(
        [tf.debugging.assert_equal(sample_rate, 16_000)]
      ):
        frames = tf.signal.frame(samples, 4_000, 4_000)
      parts = tf.reduce_mean(frames, -1), tf.reduce_max(frames, -1)
      return {output: tf.stack(parts, axis=-1)}

  tf.saved_model.save(Tiny(), str(folder))


@pytest.mark.slow
def test_it_hears_through_another_process(tmp_path):
  _save(tmp_path, output='embedding')
  ear = trill.load(str(tmp_path))
  assert isinstance(ear, base.Embedder) and ear.dim == 2
  for num_samples in (20_003, 33_000):
    clip = np.random.default_rng(num_samples).standard_normal(num_samples)
    clip = clip.astype(np.float32)
    frames = clip[: num_samples // 4_000 * 4_000].reshape(-1, 4_000)
    np.testing.assert_allclose(
      ear.embed(clip),
      np.stack([frames.mean(axis=1), frames.max(axis=1)], axis=1),
      atol=1e-6,
    )
  assert ear.embed(np.ones(3, np.float32)).shape == (4, 2)  # One second.
  worker = ear._worker
  del ear
  assert worker.poll() == 0


@pytest.mark.slow
def test_a_model_without_that_output_is_an_error_that_says_what_it_has(
  tmp_path,
):
  _save(tmp_path, output='other')
  with pytest.raises(ValueError, match="no output 'embedding'; it has other"):
    trill.load(str(tmp_path))


def test_a_folder_without_a_model_is_an_error_and_starts_nothing(tmp_path):
  with pytest.raises(ValueError, match='no saved_model.pb'):
    trill.load(str(tmp_path))


def test_a_model_that_cannot_be_read_is_told_of(tmp_path, monkeypatch):
  (tmp_path / 'saved_model.pb').write_bytes(b'damaged')
  monkeypatch.setattr(trill, '_WORKER', 'not_there')
  with pytest.raises(ValueError, match='gave nothing: .*not_there'):
    trill.load(str(tmp_path))
