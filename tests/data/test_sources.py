# SPDX-License-Identifier: Apache-2.0
"""Clips, rejections and the split by group."""

import collections
import pickle

import numpy as np
import pytest

from musiclm_jax.data import sources


def test_a_clip_that_is_not_mono_float32_is_refused_with_what_came():
  with pytest.raises(ValueError, match=r'mono float32.*int16 \[31, 2\]'):
    sources.Clip(waveform=np.zeros([31, 2], np.int16), sample_rate_hz=24000)


def test_a_rejection_survives_the_way_back_from_a_worker_process():
  error = sources.RejectedClip('silent', 'peak 0')
  again = pickle.loads(pickle.dumps(error))
  assert (again.reason, again.detail) == ('silent', 'peak 0')
  assert str(again) == 'silent: peak 0'


def test_a_group_keeps_its_split_and_shares_come_out_right():
  groups = [f'tune {n}' for n in range(5003)]
  splits = [sources.split_of(group) for group in groups]
  assert splits == [sources.split_of(group) for group in groups]
  counts = collections.Counter(splits)
  # Three standard deviations of a binomial draw of 5003 are 46 and 64.
  assert counts['validation'] == pytest.approx(250, abs=46)
  assert counts['train'] == pytest.approx(4503, abs=64)


def test_shares_that_do_not_sum_to_one_are_an_error():
  with pytest.raises(ValueError, match='sum to 1'):
    sources.split_of('tune', shares={'train': 0.9, 'test': 0.2})
