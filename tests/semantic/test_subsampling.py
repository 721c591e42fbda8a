# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.semantic.subsampling import Subsampling, SubsamplingConfig
from tests.semantic import toys

MODULE = Subsampling(toys.CONFIG.subsampling, embed_dim=12)
ROWS = toys.batch(num_samples=7 * toys.HOP + 5)
WAVEFORM, MASK = ROWS[batches.WAVEFORM], ROWS[batches.SAMPLE_MASK]


def variables():
  return meta.unbox(MODULE.init(jax.random.key(0), WAVEFORM, sample_mask=MASK))


def apply(waveform, mask):
  return MODULE.apply(variables(), waveform, sample_mask=mask)


@pytest.mark.parametrize(
  ('num_samples', 'num_frames'),
  [(160_000, 250), (1, 1), (640, 1), (641, 2), (15_999, 25), (16_001, 26)],
)
def test_a_frame_is_made_of_each_40_ms_that_have_begun(num_samples, num_frames):
  config = SubsamplingConfig()
  assert config.hop_samples == 640
  shape = (2, num_samples)

  def frames(waveform, sample_mask):
    made, _ = Subsampling(config, embed_dim=8).init_with_output(
      jax.random.key(0), waveform, sample_mask=sample_mask
    )
    return made, config.frame_mask(sample_mask)

  made, mask = jax.eval_shape(
    frames,
    jax.ShapeDtypeStruct(shape, 'float32'),
    jax.ShapeDtypeStruct(shape, bool),
  )
  assert made.shape == (2, num_frames, 8)
  assert mask.shape == (2, num_frames)


def test_all_80_mels_hold_a_bin():
  assert SubsamplingConfig().mel.num_filters == 80


@pytest.mark.parametrize('length', [449, 448, 447, 385, 65, 64, 1])
def test_padding_changes_no_frame(length):
  mask = np.zeros(MASK.shape, bool)
  mask[:, :length] = True
  noisy = np.where(mask, WAVEFORM, 0.7).astype(np.float32)
  padded = apply(noisy, mask)
  alone = apply(WAVEFORM[:, :length], MASK[:, :length])
  valid = toys.CONFIG.frame_mask(mask)
  assert valid.sum() == 2 * alone.shape[1] == 2 * -(-length // toys.HOP)
  np.testing.assert_allclose(padded[:, : alone.shape[1]], alone, atol=1e-5)


def test_frames_are_about_the_sound_and_have_unit_deviation():
  frames = apply(WAVEFORM, MASK)
  np.testing.assert_allclose(jnp.std(frames, axis=-1), 1, rtol=1e-2)
  assert not np.allclose(frames[0], frames[1], atol=0.1)
