# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import figures


def measure(scores, clips, prompts='abcdefg'):
  return figures.measure(
    'any',
    lambda i, j: float(scores[i, j]),
    clips=clips,
    prompts=prompts,
  )


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

  figures.measure('any', score, clips=range(41), prompts=range(41))
  others = [(j - i) % 41 for i, j in asked if i != j]
  assert len(others) == 8 * 41 and len(set(others)) == 8
  assert max(others) > 30 and min(others) == 1


def test_music_that_fits_every_prompt_gains_nothing():
  figure = measure(np.ones((5, 5)), range(5))
  assert (figure.own.mean, figure.gain.mean) == (1, 0)


def test_one_prompt_alone_has_no_figure():
  assert measure(np.ones((5, 5)), [3]) is None
  assert measure(np.ones((5, 5)), range(5), prompts='aaaaa') is None


def test_samples_of_one_prompt_are_no_others_and_are_drawn_together():
  prompts = 'aaabbbc'
  scores = np.array([[float(a == b) for b in prompts] for a in prompts])
  figure = measure(scores, range(7), prompts=prompts)
  assert (figure.own.mean, figure.shuffled.mean, figure.gain.mean) == (1, 0, 1)
  assert figure.gain.num_clips == 3
  # In any order, and each prompt as often as any other.
  asked = []

  def score(music, prompt):
    asked.append((prompts[music], prompts[prompt]))
    return 0.0

  figures.measure('any', score, clips=[6, 3, 0, 4, 1], prompts=prompts)
  others = {pair: asked.count(pair) for pair in asked if len(set(pair)) == 2}
  sizes = {'a': 2, 'b': 2, 'c': 1}
  assert others == {(a, b): sizes[a] for a in 'abc' for b in 'abc' if a != b}
