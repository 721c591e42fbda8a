# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation import linear_probe

pytest.importorskip('sklearn')


def rows(*, seed, tells=True, num_tunes=41):
  """Two rows a tune; one class in eight is rare and one dimension tells."""
  generator = np.random.default_rng(seed)
  tunes = np.repeat(np.arange(num_tunes), 2)
  labels = np.where(tunes % 8 == 0, 'minor', 'major')
  features = generator.standard_normal((len(tunes), 7))
  if tells:
    features[:, 3] += 4 * (labels == 'minor')
  return features, labels.tolist(), tunes.tolist()


def score(*, tells):
  train, labels, groups = rows(seed=0, tells=tells)
  test, truth, _ = rows(seed=1, tells=tells)
  found = linear_probe.predict(train, labels, groups=groups, test=test)
  return linear_probe.balanced_accuracy(np.array(found) == truth, labels=truth)


def test_what_one_dimension_tells_is_read():
  assert score(tells=True) > 0.9


def test_noise_is_at_chance_though_one_class_is_common():
  assert abs(score(tells=False) - 0.5) < 0.2


def test_each_class_counts_alike():
  correct = np.array([True, True, True, False, True, False])
  labels = ['a', 'a', 'a', 'a', 'b', 'b']
  found = linear_probe.balanced_accuracy(correct, labels=labels)
  assert found == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_one_class_alone_is_named():
  features = np.ones((4, 3))
  with pytest.raises(ValueError, match='two classes .* not 1 and 4'):
    linear_probe.predict(features, ['a'] * 4, groups=range(4), test=features)
