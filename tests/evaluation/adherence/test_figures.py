# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import figures


def measure(scores, clips):
  return figures.measure('any', lambda i, j: float(scores[i, j]), clips=clips)


def test_own_prompts_are_the_diagonal_and_others_are_the_rest_of_each_row():
  scores = np.random.default_rng(0).uniform(size=(7, 7))
  clips = [0, 2, 3, 5, 6]
  chosen = scores[np.ix_(clips, clips)]
  figure = measure(scores, clips)
  own = np.diag(chosen)
  others = (chosen.sum(axis=1) - own) / 4
  np.testing.assert_allclose(figure.values, own)
  assert figure.own.mean == pytest.approx(own.mean())
  assert figure.shuffled.mean == pytest.approx(others.mean())
  assert figure.gain.mean == pytest.approx((own - others).mean())
  assert figure.own.num_clips == 5


def test_many_clips_meet_eight_other_prompts_each_spread_over_all():
  asked = []

  def score(music, prompt):
    asked.append((music, prompt))
    return 0.0

  figures.measure('any', score, clips=range(41))
  others = [(j - i) % 41 for i, j in asked if i != j]
  assert len(others) == 8 * 41 and len(set(others)) == 8
  assert max(others) > 30 and min(others) == 1


def test_music_that_fits_every_prompt_gains_nothing():
  figure = measure(np.ones((5, 5)), range(5))
  assert (figure.own.mean, figure.gain.mean) == (1, 0)


def test_one_prompt_alone_has_no_figure():
  assert measure(np.ones((5, 5)), [3]) is None
