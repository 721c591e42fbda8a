# SPDX-License-Identifier: Apache-2.0
"""Areas by hand, and as the share of pairs that are in order."""

import numpy as np

from musiclm_jax.evaluation import zero_shot


def test_an_area_is_the_share_of_pairs_in_order_and_ties_are_half():
  draw = np.random.default_rng(0)
  scores = draw.integers(0, 5, (31, 3)).astype(np.float64)
  positive = draw.uniform(size=(31, 3)) < 0.4
  expected = []
  for tag in range(3):
    with_tag = scores[positive[:, tag], tag][:, None]
    without = scores[~positive[:, tag], tag][None]
    expected.append(np.mean((with_tag > without) + 0.5 * (with_tag == without)))
  np.testing.assert_allclose(zero_shot.areas(scores, positive), expected)
  np.testing.assert_allclose(
    zero_shot.mean_area(scores, positive), np.mean(expected)
  )


def test_a_tag_of_all_or_no_clips_has_no_area_and_is_left_out_of_the_mean():
  scores = np.array([[0.1, 0.5, 3.0], [0.2, 0.6, 1.0]])
  positive = np.array([[True, False, True], [True, False, False]])
  np.testing.assert_array_equal(
    zero_shot.areas(scores, positive), [np.nan, np.nan, 1.0]
  )
  assert zero_shot.mean_area(scores, positive) == 1.0


def test_tags_that_too_few_clips_have_or_lack_are_left_out():
  clips = [{'harp', 'tune'}, {'harp', 'tune'}, {'tune', 'oboe'}, {'flute'}]
  clips += [{'flute', 'tune'}]
  tags, positive = zero_shot.tags_of(clips, min_clips=2)
  assert tags == ('flute', 'harp')
  np.testing.assert_array_equal(
    positive.T,
    [[False, False, False, True, True], [True, True, False, False, False]],
  )
