# SPDX-License-Identifier: Apache-2.0
import hashlib

import jax
import numpy as np
import pytest

from musiclm_jax.evaluation.embedders import base
from tests.evaluation import toy_ear


def test_windows_by_hand():
  clip = np.arange(11, dtype=np.float32)
  found = base.windows(clip, window_samples=4, hop_samples=3)
  np.testing.assert_array_equal(found[:, 0], [0, 3, 6])
  np.testing.assert_array_equal(found[2], [6, 7, 8, 9])
  short = base.windows(clip[:3], window_samples=7, hop_samples=3)
  np.testing.assert_array_equal(short, [[0, 1, 2, 0, 1, 2, 0]])


def test_any_number_of_rows_goes_through_over_all_devices():
  seen = []

  def scaled(weights, rows):
    seen.append(rows.shape)
    return rows * weights['scale']

  program = base.BatchedProgram(
    scaled, {'scale': np.float32(3)}, rows_at_a_time=11
  )
  for count in (1, 16, 37):
    rows = np.random.default_rng(count).standard_normal((count, 5), np.float32)
    np.testing.assert_array_equal(program(rows), 3 * rows)
  # One program, of the least multiple of the devices.
  assert len(jax.devices()) == 8 and seen == [(16, 5)]


def test_the_hash_is_that_of_the_files_in_order(tmp_path):
  for name, content in (('a', b'one'), ('b', b'two')):
    (tmp_path / name).write_bytes(content)
  found = base.file_sha256(tmp_path / 'b', tmp_path / 'a')
  assert found == hashlib.sha256(b'twoone').hexdigest()


def test_the_protocols_tell_ears_apart():
  ear = toy_ear.ToyEar()
  assert isinstance(ear, base.Classifier)
  assert isinstance(ear, base.TextEmbedder)
  assert not isinstance(object(), base.Embedder)


def test_no_clip_of_no_samples():
  with pytest.raises(ValueError, match='at least one sample'):
    base.windows(np.zeros(0, np.float32), window_samples=3, hop_samples=2)
