# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import cycle_consistency


def _unit(degrees: list[float]) -> np.ndarray:
  angles = np.radians(degrees)
  return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_cosines_by_hand():
  found = cycle_consistency.measure(
    _unit([0, 90, 60]), _unit([0, 90, 120]), prompts=['a', 'b', 'c']
  )
  assert found.matched.mean == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-6)
  root = np.sqrt(3) / 2
  others = np.array([[0, -0.5], [0, root], [0.5, root]])
  assert found.shuffled.mean == pytest.approx(others.mean(), abs=1e-6)
  assert found.above_shuffled.mean == pytest.approx(
    found.matched.mean - found.shuffled.mean
  )
  assert found.best_of_all.mean == pytest.approx(2 / 3)


def test_music_of_one_prompt_is_no_wrong_answer_of_its_own():
  audio = _unit([10, 20, 90])
  found = cycle_consistency.measure(
    audio, _unit([0, 0, 90]), prompts=['a', 'a', 'b']
  )
  wanted = np.cos(np.radians([80, 70, 90])).mean()
  assert found.shuffled.mean == pytest.approx(wanted, abs=1e-6)
  assert found.best_of_all.mean == 1
  assert found.matched.num_clips == 2  # What is drawn are the prompts.


def test_music_that_knows_nothing_of_its_prompt_is_not_above_chance():
  draw = np.random.default_rng(0)
  audio, texts = (_unit(draw.uniform(0, 360, 211).tolist()) for _ in range(2))
  prompts = [str(n) for n in range(211)]
  blind = cycle_consistency.measure(audio, texts, prompts=prompts)
  assert blind.above_shuffled.low < 0 < blind.above_shuffled.high
  knows = cycle_consistency.measure(texts, texts, prompts=prompts)
  assert knows.above_shuffled.low > 0.8


def test_one_prompt_cannot_be_shuffled():
  with pytest.raises(ValueError, match='at least 2'):
    cycle_consistency.measure(_unit([0, 3]), _unit([5, 5]), prompts=['a', 'a'])
