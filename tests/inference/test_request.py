# SPDX-License-Identifier: Apache-2.0
import fractions

import numpy as np
import pytest

from musiclm_jax.inference.request import Request

TONE = np.sin(np.arange(31)).astype(np.float32)


def test_seeds_belong_to_prompts_and_count_up_over_their_samples():
  request = Request(prompts=['a', 'b'], seed=[7, 3], num_samples=2)
  assert request.seeds().tolist() == [7, 8, 3, 4]
  assert Request(prompts=['a', 'b'], seed=5).seeds().tolist() == [5, 5]
  assert Request(prompts='a', seed=2**32 - 1).seeds().tolist() == [2**32 - 1]


def test_time_is_exact_and_the_last_sample_may_be_begun_only():
  request = Request(prompts='a', seconds=0.1)
  assert request.seconds == fractions.Fraction(1, 10)
  assert request.num_samples_of_audio(30) == 3
  assert request.num_samples_of_audio(31) == 4


def test_clips_of_audio_are_prompts():
  request = Request(prompt_audio=[TONE, TONE], sample_rate_hz=24)
  assert request.num_prompts == 2
  assert request.prompt_audio.shape == (2, 31)
  request = Request(continue_from=TONE.astype(np.float64), sample_rate_hz=24)
  assert request.num_prompts == 1
  assert request.continue_from.dtype == np.float32


@pytest.mark.parametrize(
  'fields, match',
  [
    ({'prompts': []}, 'holds no prompt'),
    ({'prompts': ''}, 'is not a prompt'),
    ({'seconds': 0}, '0 s are asked for'),
    ({'seconds': -3}, '-3 s are asked for'),
    ({'seconds': float('nan')}, 'nan is not a number of seconds'),
    ({'seconds': float('inf')}, 'inf is not a number of seconds'),
    ({'prompts': [(0, 'a'), (10, 'b')]}, "'b' starts at 10 s, after the 10 s"),
    ({'num_samples': 0}, 'at least 1'),
    ({'seed': -1}, 'within .0, 2..32.'),
    ({'seed': 2**32}, 'within'),
    ({'seed': 0.5}, 'whole number'),
    ({'seed': [1, 2]}, '2 seeds for 1 prompts'),
    ({'prompt_audio': TONE, 'sample_rate_hz': 24}, 'Both'),
    ({'continue_from': TONE}, 'needs its `sample_rate_hz`'),
    (
      {'continue_from': TONE[None], 'sample_rate_hz': 24},
      r'of 1 axes.*float32 \[1, 31\]',
    ),
    (
      {'continue_from': np.full(3, np.nan), 'sample_rate_hz': 24},
      'finite floats',
    ),
    (
      {'continue_from': np.zeros(5, np.int16), 'sample_rate_hz': 24},
      'int16',
    ),
  ],
)
def test_what_makes_no_sense_is_an_error(fields, match):
  with pytest.raises(ValueError, match=match):
    Request(**({'prompts': 'a'} | fields))
