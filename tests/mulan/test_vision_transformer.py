# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import numpy as np
import pytest

from musiclm_jax.mulan import vision_transformer
from tests.mulan import toys

CONFIG = toys.vision_transformer_body()  # Patches of 8 × 4, 5 × 3 apart.
FRAMES, MELS = 23, 11


def features(seed=0):
  draws = np.random.default_rng(seed)
  return draws.normal(size=(2, FRAMES, MELS)).astype(np.float32)


@functools.cache
def body():
  module = CONFIG.make(name='body')
  mask = np.ones((2, FRAMES), bool)
  params = toys.fill(module.init, features(), frame_mask=mask)
  return jax.jit(
    lambda values, mask: module.apply(params, values, frame_mask=mask)
  )


def test_patches_are_the_parts_of_the_spectrogram():
  values = features()
  patches = vision_transformer.cut(values, config=CONFIG)
  assert patches.shape == (2, 4, 3, 32)
  for time in range(4):
    for band in range(3):
      part = values[:, 5 * time : 5 * time + 8, 3 * band : 3 * band + 4]
      np.testing.assert_array_equal(patches[:, time, band], part.reshape(2, -1))


def test_patches_of_padding_alone_are_not_looked_at():
  mask = np.ones((2, FRAMES), bool)
  mask[1, 10:] = False  # The patches from 10 and 15 on hold nothing valid.
  values = features()
  other = values.copy()
  other[1, 13:] = 9  # No other patch reaches further.
  np.testing.assert_array_equal(body()(values, mask), body()(other, mask))
  other[1, 12] = 9
  assert not np.allclose(body()(values, mask), body()(other, mask))


def test_every_patch_is_heard_and_its_place_matters():
  mask = np.ones((2, FRAMES), bool)
  wanted = body()(features(), mask)
  for frame, mel in ((0, 0), (22, 0), (0, 9), (22, 9)):
    other = features()
    other[:, frame, mel] += 3
    assert np.abs(body()(other, mask) - wanted).max(1).min() > 1e-5
  turned = np.roll(features(), 5, axis=1)
  assert not np.allclose(body()(turned, mask), wanted, atol=1e-4)


def test_a_spectrogram_without_a_patch_is_an_error():
  with pytest.raises(ValueError, match=r'23 frames and 3 mels.*\(8, 4\)'):
    vision_transformer.cut(features()[:, :, :3], config=CONFIG)
