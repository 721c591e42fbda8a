# SPDX-License-Identifier: Apache-2.0
"""What a linear classifier can read from features, class by class alike.

Logistic regression over standardised features. How strong its penalty is, cross
validation over groups of the training rows decides, for every kind of features
by itself: a wide one is not held back by what suits a narrow one.

Shapes: features [rows, dim] to fit to, [asked, dim] to classify.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float

# Inverse strengths of the penalty that are tried.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_NUM_FOLDS = 4
_MAX_ITERATIONS = 500


def predict(
  train: Float[np.ndarray, 'rows dim'],
  labels: Sequence[str],
  *,
  groups: Sequence[Hashable],
  test: Float[np.ndarray, 'asked dim'],
) -> list[str]:
  """The class of each test row, after fitting to the training rows.

  Args:
    train: Features to fit to.
    labels: Their classes, at least two.
    groups: The tune of each: none is on both sides of a fold.
    test: Features to classify.
  """
  import threadpoolctl
  from sklearn import linear_model, model_selection, pipeline, preprocessing

  classes = set(labels)
  folds = min(_NUM_FOLDS, len(set(groups)))
  if len(classes) < 2 or folds < 2:
    raise ValueError(
      f'A probe needs two classes and two groups to be fitted to, not'
      f' {len(classes)} and {len(set(groups))}; give more training clips.'
    )
  names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
  search = model_selection.GridSearchCV(
    pipeline.make_pipeline(
      preprocessing.StandardScaler(),
      # Balanced: a rare class counts as much as a common one, as in the score.
      linear_model.LogisticRegression(
        class_weight='balanced', max_iter=_MAX_ITERATIONS
      ),
    ),
    {'logisticregression__C': _STRENGTHS},
    scoring='balanced_accuracy',
    cv=model_selection.GroupKFold(folds),
  )
  # The products are small: where the cores are busy, threads that wait for each
  # other take a hundred times as long.
  with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
    # A small fold may lack a rare class; a weak penalty may not converge.
    warnings.simplefilter('ignore')
    search.fit(
      np.asarray(train, np.float64),
      np.asarray(labels),
      groups=[names[group] for group in groups],
    )
  return search.predict(np.asarray(test, np.float64)).tolist()


def balanced_accuracy(
  correct: Bool[np.ndarray, ' rows'], *, labels: Sequence[str] | np.ndarray
) -> float:
  """The mean over classes of the share of its rows that are right.

  Blind guessing gives 1 / classes, however common each class is.
  """
  labels = np.asarray(labels)
  _, classes = np.unique(labels, return_inverse=True)
  counts = np.bincount(classes)
  return float(np.mean(np.bincount(classes, weights=correct) / counts))
