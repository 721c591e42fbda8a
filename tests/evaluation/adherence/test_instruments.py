# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import instruments

CLASSES = ['loud', *(t for tags in instruments.TAGS.values() for t in tags)]
KEYS, PLUCKED, BOWED, WOOD = instruments.FAMILIES


def probabilities(**tags):
  """Two patches whose mean has these tags, and 0.1 of all others."""
  mean = np.array([tags.get(name, 0.1) for name in CLASSES])
  return np.stack([mean - 0.05, mean + 0.05])


class FakeClassifier:
  """Hears the piano where samples are positive and a flute elsewhere."""

  name, weights_sha256 = 'fake', 'abc'
  sample_rate_hz, dim, window_seconds, hop_seconds = 16_000, 1, 3.0, 3.0
  classes = CLASSES

  def embed(self, waveform):
    return np.array([[waveform.mean()]])

  def probabilities(self, embeddings):
    tag = 'piano' if embeddings[0, 0] > 0 else 'flute'
    return probabilities(**{tag: 0.9})


def test_a_family_is_as_likely_as_its_likeliest_tag():
  scores = instruments.family_scores(
    probabilities(loud=0.9, harp=0.6, guitar=0.3, cello=0.4), classes=CLASSES
  )
  np.testing.assert_allclose(scores, [0.1, 0.6, 0.4, 0.1])


def test_musicnn_has_every_tag():
  configuration = pytest.importorskip('musicnn.configuration')
  assert set(CLASSES) <= set(configuration.MTT_LABELS)


def test_recall_is_over_the_families_that_can_be_heard():
  scores = np.array([0.2, 0.6, 0.4, 0.1])
  assert instruments.recall(scores, [PLUCKED]) == 1
  assert instruments.recall(scores, [BOWED]) == 0
  assert instruments.recall(scores, [BOWED, PLUCKED]) == 1
  assert instruments.recall(scores, [WOOD, PLUCKED]) == 0.5
  assert instruments.recall(scores, [PLUCKED, 'brass', 'mallets']) == 1
  assert instruments.audible(['brass', WOOD]) == {WOOD}


def test_what_must_not_play_is_avoided_if_others_are_likelier():
  scores = np.array([0.2, 0.6, 0.4, 0.1])
  assert instruments.avoided(scores, [PLUCKED], [BOWED]) == 1
  assert instruments.avoided(scores, [WOOD], [PLUCKED]) == 0
  assert instruments.avoided(scores, [PLUCKED, WOOD], [BOWED]) == 0
  assert instruments.avoided(scores, [], [PLUCKED]) == 0


def test_the_order_is_that_of_the_halves():
  waveform = np.repeat([0.5, -0.5], 7)
  first, second = instruments.listen(waveform, classifier=FakeClassifier())
  np.testing.assert_allclose(first, [0.9, 0.1, 0.1, 0.1])
  np.testing.assert_allclose(second, [0.1, 0.1, 0.1, 0.9])
  assert instruments.in_order(first, second, [KEYS, WOOD]) == 1
  assert instruments.in_order(first, second, [WOOD, KEYS]) == 0
