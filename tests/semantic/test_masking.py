# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.semantic import masking
from musiclm_jax.semantic.masking import MaskingConfig

KEY = jax.random.key(0)


def _spans(row):
  """Lengths of the runs of True."""
  edges = np.flatnonzero(np.diff(np.r_[0, row, 0]))
  return edges[1::2] - edges[::2]


def test_shares_are_those_of_the_spans_that_reach_a_frame():
  config = MaskingConfig()
  valid = jnp.ones((20_011, 61), bool)
  shares = masking.span_mask(KEY, frame_mask=valid, config=config).mean(0)
  # Frame t is hidden unless none of itself and the nine before is a start.
  wanted = 1 - (1 - 0.065) ** np.minimum(np.arange(61) + 1, 10)
  assert wanted[-1] == pytest.approx(0.489, abs=1e-3)
  # Four standard deviations of 20,011 draws are 0.014.
  np.testing.assert_allclose(shares, wanted, atol=0.014)


def test_spans_are_whole_unless_the_clip_ends():
  config = MaskingConfig(start_rate=0.02, span_frames=7)
  valid = jnp.ones((211, 53), bool)
  masked = np.asarray(masking.span_mask(KEY, frame_mask=valid, config=config))
  inner = [n for row in masked if not row[-1] for n in _spans(row)]
  assert len(inner) > 50
  assert min(inner) == 7 and max(inner) > 7
  assert any(_spans(row)[-1] < 7 for row in masked if row[-1])


def test_padding_is_never_masked_and_changes_nothing_else():
  valid = jnp.ones((3, 41), bool)
  short = valid.at[1, 17:].set(False)
  config = MaskingConfig(start_rate=0.2)
  whole = masking.span_mask(KEY, frame_mask=valid, config=config)
  cut = masking.span_mask(KEY, frame_mask=short, config=config)
  np.testing.assert_array_equal(cut, whole & short)
  assert (whole & ~short).any()


MASKED = jnp.array(
  [
    [0, 1, 1, 0, 1, 1, 1, 0, 1],
    [0, 0, 1, 0, 1, 0, 0, 0, 0],
    [0, 0, 0, 1] + [0] * 5,
  ],
  bool,
)


def test_distractors_are_other_masked_frames_drawn_once_each():
  weights = masking.distractor_weights(KEY, masked=MASKED, num_distractors=3)
  weights = np.asarray(weights)
  assert weights.shape == (3, 9, 9)
  masked = np.asarray(MASKED)
  for frame in range(9):
    row = weights[0, frame]
    assert row[frame] == 0
    assert not row[~masked[0]].any()
    assert sorted(row)[-3:] == ([1, 1, 1] if masked[0, frame] else [0, 0, 0])
    assert row.sum() == (3 if masked[0, frame] else 0)


def test_fewer_frames_weigh_as_many_as_were_wanted():
  weights = masking.distractor_weights(KEY, masked=MASKED, num_distractors=3)
  # The second clip has one other frame, the third none.
  assert weights[1, 2, 4] == weights[1, 4, 2] == 3
  assert weights[1].sum() == 6
  assert weights[2].sum() == 0
  # More than there are frames at all.
  weights = masking.distractor_weights(KEY, masked=MASKED, num_distractors=100)
  np.testing.assert_allclose(weights[0, 1, np.array([2, 4, 5, 6, 8])], 20)


def test_every_other_frame_is_drawn_as_often():
  masked = jnp.ones((2003, 7), bool)
  weights = masking.distractor_weights(KEY, masked=masked, num_distractors=2)
  shares = np.asarray(weights.mean(0))
  wanted = np.where(np.eye(7, dtype=bool), 0, 2 / 6)
  # Four standard deviations of 2,003 draws are 0.042.
  np.testing.assert_allclose(shares, wanted, atol=0.042)


@pytest.mark.parametrize(
  'settings', [{'start_rate': 0.0}, {'start_rate': 1.1}, {'span_frames': 0}]
)
def test_spans_that_cannot_be_drawn_are_an_error(settings):
  with pytest.raises(ValueError, match='at least 1 frame and a rate'):
    MaskingConfig(**settings)
