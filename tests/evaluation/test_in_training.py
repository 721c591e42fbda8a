# SPDX-License-Identifier: Apache-2.0
"""A run that would publish something of a known kind."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.evaluation import in_training
from tests.evaluation.test_codec_hook import run_of


def test_what_would_be_published_is_checked_once_without_its_weights(tmp_path):
  seen = []
  published = in_training.Published('codec', hook='Hook', require=seen.append)
  run = run_of(tmp_path)
  published.check_once(run)
  published.check_once(dataclasses.replace(run, step=4))
  (contents,) = seen
  assert contents.weights['params']['seen'].shape == (3,)
  with pytest.raises(Exception, match='[Tt]racer'):  # Nothing was computed.
    np.asarray(contents.weights['params']['seen'])
  found = published.of(run)
  np.testing.assert_array_equal(found.weights['params']['seen'], np.arange(3))
  assert isinstance(found.weights['params']['seen'], np.ndarray)


def test_what_cannot_be_evaluated_is_refused_each_time(tmp_path):
  run = run_of(tmp_path, kind='stage')
  published = in_training.Published('codec', hook='Hook')
  for _ in range(2):
    with pytest.raises(ValueError, match="'codec', and this run trains a 's"):
      published.check_once(run)

  def refuse(contents):
    raise ValueError(f'a {contents.kind} without strings')

  with pytest.raises(ValueError, match='a stage without strings'):
    in_training.Published('stage', hook='Hook', require=refuse).check_once(run)


def test_one_process_keeps_its_figures():
  figures = {'a': 0.1}
  assert in_training.of_first_process(figures) is figures
