# SPDX-License-Identifier: Apache-2.0
"""Codes in use, and how often a caption has its clip's, by hand."""

import numpy as np
import pytest

from musiclm_jax.evaluation import code_agreement

NUM_CLIPS = 48


@pytest.fixture(scope='module')
def levels():
  # Level 1 of music is one of three, and so is that of every other caption; of
  # the others it is 3, which no music has. Level 2 is 0 for all.
  zeros = np.zeros(NUM_CLIPS, int)
  music = np.stack([np.arange(NUM_CLIPS) % 3, zeros], axis=1)
  other = np.stack([np.full(NUM_CLIPS, 3), zeros], axis=1)
  return code_agreement.measure(
    code_agreement.Codes(
      windows=np.array([[0, 1], [0, 2], [0, 1]]),
      clips=music,
      texts=(music, other),
      codebook_size=4,
    )
  )


def test_codes_in_use_are_counted_by_level(levels):
  assert [level.music.used_share for level in levels] == [0.25, 0.5]
  assert [level.captions.used_share for level in levels] == [1, 0.25]


def test_captions_agree_with_the_codes_of_their_clips(levels):
  first, second = levels
  assert (first.agreement, second.agreement) == (0.5, 1)
  # One in three is right by chance among the half that is music's at all.
  assert first.blind_agreement == pytest.approx(0.5 / 3)
  assert second.blind_agreement == 1
