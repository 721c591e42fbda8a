# SPDX-License-Identifier: Apache-2.0
"""What is asked for, and what is refused, in one clear line."""

import fractions

import pytest
import torch

from musiclm_jax.export.pytorch import prompting
from musiclm_jax.export.pytorch.sampling import Sampler, Settings

ZERO, TEN = fractions.Fraction(0), fractions.Fraction(10)


def test_prompts_are_texts_or_texts_over_time():
  calm = prompting.Prompt(starts=(ZERO,), texts=('calm',))
  story = prompting.Prompt(starts=(ZERO, TEN / 4), texts=('calm', 'drop'))
  pairs = [(0, 'calm'), (2.5, 'drop')]
  assert prompting.parse_prompts('calm', seconds=TEN) == (calm,)
  assert prompting.parse_prompts(pairs, seconds=TEN) == (story,)
  assert prompting.parse_prompts([pairs, 'calm'], seconds=TEN) == (story, calm)


@pytest.mark.parametrize(
  'prompts, words',
  [
    ([], 'holds no prompt'),
    (None, 'holds no prompt'),
    ([' '], "' ' is not a prompt"),
    ([3], '3 is not a prompt'),
    ([(1, 'late')], 'the first starts at 0'),
    ([(0, 'a'), (0, 'b')], 'in order of time'),
    ([(0, 'a'), (10, 'b')], 'after the 10 s'),
  ],
)
def test_what_is_no_prompt_is_refused(prompts, words):
  with pytest.raises(ValueError, match=words):
    prompting.parse_prompts(prompts, seconds=TEN)


@pytest.mark.parametrize('seconds', [0, -1, '0.0', 'long', 'nan'])
def test_what_is_no_length_is_refused(seconds):
  with pytest.raises(ValueError, match='more than 0|not a number'):
    prompting.parse_seconds(seconds)


def test_lengths_are_exact():
  assert prompting.parse_seconds(0.04) == fractions.Fraction(1, 25)


def seeds(seed, *, num_prompts=2, num_samples=1, generator=None):
  return prompting.parse_seeds(
    seed,
    num_prompts=num_prompts,
    num_samples=num_samples,
    generator=generator,
  ).tolist()


def test_a_sample_draws_from_the_next_seed():
  assert seeds(7, num_samples=3) == [7, 8, 9, 7, 8, 9]
  assert seeds([7, 1], num_samples=2) == [7, 8, 1, 2]


def test_a_generator_draws_seeds_that_differ_and_repeat():
  made = [
    seeds(0, num_prompts=5, generator=torch.Generator().manual_seed(n))
    for n in (1, 1, 2)
  ]
  assert made[0] == made[1] != made[2]
  assert len(set(made[0])) == 5


@pytest.mark.parametrize(
  'seed, words',
  [
    (0.5, 'whole number'),
    (True, 'whole number'),
    ([1, 2, 3], '3 seeds for 2 prompts'),
    (-1, 'not within'),
    (2**32, 'not within'),
  ],
)
def test_what_is_no_seed_is_refused(seed, words):
  with pytest.raises(ValueError, match=words):
    seeds(seed)


DEFAULTS = Settings()
OWN = Settings(coarse=Sampler(0.9, top_k=7), guidance=3.0)


def settings(own=DEFAULTS, **given):
  fields = dict.fromkeys(('temperature', 'top_k', 'top_p', 'guidance'))
  return prompting.parse_settings(own, **fields | given)


def test_one_number_is_every_stage_and_three_are_one_each():
  assert settings().fine == Sampler(0.4)
  found = settings(temperature=(1.0, 0.5, 0.0), guidance=3.0)
  assert found.coarse == Sampler(0.5)
  assert found.guidance == 3
  assert settings(top_k=5).semantic == Sampler(1.0, top_k=5)


def test_what_is_left_out_is_the_models_own():
  assert settings(OWN) == OWN
  cooler = settings(OWN, temperature=(None, 0.5, None), guidance=1.0)
  assert cooler == Settings(coarse=Sampler(0.5, top_k=7), guidance=1.0)


@pytest.mark.parametrize(
  'given, words',
  [
    ({'temperature': (1.0, 0.5)}, '3 for semantic, coarse, fine'),
    ({'top_p': 'nucleus'}, "top_p is 'nucleus'"),
    ({'top_k': (1, 0, 1)}, "Stage 'coarse': top_k is 0"),
    ({'guidance': float('inf')}, 'guidance is inf'),
  ],
)
def test_unknown_ways_of_drawing_are_refused(given, words):
  with pytest.raises(ValueError, match=words):
    settings(**given)
