# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.mulan import spec_augment

CONFIG = spec_augment.SpecAugmentConfig(
  num_time_bands=1, max_frames=7, num_mel_bands=1, max_mels=3
)
ROWS, FRAMES, MELS = 211, 31, 11


def hidden(draws, *, config=CONFIG, frames=FRAMES, mels=MELS):
  features = jnp.ones((len(draws), frames, mels))
  return np.asarray(spec_augment.hide(features, draws, config=config)) == 0


def test_bands_by_hand():
  # Width 0.5 × 8 = 4 from 0.5 × 28 = 14 on; width 0.8 × 4 = 3 from 8 on.
  got = hidden(jnp.asarray([[[0.5, 0.5], [0.8, 0.95]]]))[0]
  wanted = np.zeros((FRAMES, MELS), bool)
  wanted[14:18] = True
  wanted[:, 8:11] = True
  np.testing.assert_array_equal(got, wanted)


def test_bands_are_whole_runs_of_every_width_and_reach_both_ends():
  draws = spec_augment.draw(jax.random.key(0), ROWS, config=CONFIG)
  got = hidden(draws)
  for lines, widest in ((got.all(2), 7), (got.all(1), 3)):
    widths = lines.sum(1)
    assert set(widths) == set(range(widest + 1))
    # One run: it starts at most once.
    starts = np.diff(np.pad(lines, ((0, 0), (1, 0))).astype(int)) == 1
    assert (starts.sum(1) == (widths > 0)).all()
    assert lines[:, 0].any() and lines[:, -1].any()
  # Nothing is hidden but the two bands.
  np.testing.assert_array_equal(
    got, got.all(2)[:, :, None] | got.all(1)[:, None]
  )


def test_a_band_is_no_wider_than_the_spectrogram():
  config = spec_augment.SpecAugmentConfig()
  draws = jnp.full((1, config.num_bands, 2), 0.999)
  assert hidden(draws, config=config, frames=5, mels=3).all()
  assert not hidden(jnp.zeros_like(draws), config=config).any()


def test_rows_and_keys_draw_apart_and_the_same_key_alike():
  draws = spec_augment.draw(jax.random.key(3), 5, config=CONFIG)
  again = spec_augment.draw(jax.random.key(3), 5, config=CONFIG)
  np.testing.assert_array_equal(draws, again)
  assert len(np.unique(draws)) == draws.size
  other = spec_augment.draw(jax.random.key(4), 5, config=CONFIG)
  assert not np.any(np.asarray(draws) == np.asarray(other))
