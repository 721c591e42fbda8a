# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import kld

CLASSES = ('harp', 'flute', 'drums')


def _clip(*shares: float, frames: int = 2) -> np.ndarray:
  return np.tile(np.array(shares, np.float64), (frames, 1))


def test_the_divergence_by_hand_and_its_direction():
  reference, generated = np.array([0.5, 0.5]), np.array([0.25, 0.75])
  wanted = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
  assert kld.divergence(reference, generated) == pytest.approx(wanted)
  assert kld.divergence(generated, reference) != pytest.approx(wanted)
  assert kld.divergence(reference, reference) == 0


def test_windows_are_averaged_then_normalised():
  # Means 0.3, 0.1 and 0.2: probabilities by themselves, not of one another.
  probabilities = np.array([[0.6, 0.0, 0.1], [0.0, 0.2, 0.3]])
  found = kld.distribution(probabilities)
  np.testing.assert_allclose(found, np.array([3, 1, 2]) / 6, atol=1e-5)
  assert found.sum() == pytest.approx(1)


def test_a_class_that_is_never_heard_costs_much_but_not_without_end():
  found = kld.divergence(
    kld.distribution(_clip(1, 0, 0)), kld.distribution(_clip(0, 1, 0))
  )
  assert 10 < found < 20


def test_pairs_tell_apart_what_sets_do_not():
  clips = [_clip(0.9, 0.1, 0.1), _clip(0.1, 0.9, 0.1)]
  swapped = kld.measure(
    clips[::-1], reference=clips, pairs=[(0, 0), (1, 1)], classes=CLASSES
  )
  matched = kld.measure(
    clips[::-1], reference=clips, pairs=[(0, 1), (1, 0)], classes=CLASSES
  )
  assert matched.paired.mean == pytest.approx(0)
  assert swapped.paired.mean > 1
  assert matched.sets.mean == pytest.approx(0) == swapped.sets.mean
  assert matched.sets.low == 0  # Nothing is nearer.


def test_clips_of_one_reference_are_drawn_together_for_the_interval():
  reference = [_clip(0.9, 0.1, 0.1), _clip(0.1, 0.9, 0.1)]
  clips = [_clip(0.9, 0.1, 0.1), _clip(0.5, 0.5, 0.1)]
  once = kld.measure(
    clips, reference=reference, pairs=[(0, 0), (1, 1)], classes=CLASSES
  ).paired
  # Five samples of each prompt, all alike, tell no more than one.
  often = kld.measure(
    5 * clips,
    reference=reference,
    pairs=[(n, n % 2) for n in range(10)],
    classes=CLASSES,
  ).paired
  assert (often.low, often.high) == pytest.approx((once.low, once.high))
  assert once.low == pytest.approx(0) and once.high > 2 * once.mean - 1e-6
  assert often.num_clips == 2


def test_without_pairs_there_is_the_figure_of_the_sets_alone():
  found = kld.measure(
    [_clip(0.2, 0.2, 0.2), _clip(0.4, 0.2, 0.2)],
    reference=[_clip(0.2, 0.2, 0.6)],
    pairs=[],
    classes=CLASSES,
    num_shown=1,
  )
  assert found.paired is None
  assert found.sets.low < found.sets.mean and found.sets.num_clips == 2
  ((name, (goal, mean)),) = found.most_apart.items()
  assert name == 'drums'
  assert goal == pytest.approx(0.6, abs=1e-4)
  assert mean == pytest.approx((1 / 3 + 1 / 4) / 2, abs=1e-4)
