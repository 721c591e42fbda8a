# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from musiclm_jax.inference import prompting
from musiclm_jax.inference.request import Request
from tests.inference import toys


def pieces(conditioner, **options):
  return prompting.pieces(
    Request(**options),
    conditioner=conditioner,
    ticks_of=lambda seconds: math.ceil(5 * seconds),
  )


def test_samples_of_a_prompt_follow_each_other(music_lm):
  found = pieces(music_lm.conditioner, prompts=['a', 'b'], num_samples=2)
  assert [piece.label for piece in found] == ['a', 'a', 'b', 'b']
  a, b = music_lm.conditioner.embed_text(['a', 'b'])
  np.testing.assert_array_equal(found[1].sections[0], a)
  np.testing.assert_array_equal(found[2].sections[0], b)


def test_of_texts_within_one_tick_the_last_is_heard(music_lm):
  (piece,) = pieces(
    music_lm.conditioner,
    prompts=[(0, 'a'), (0.9, 'b'), (0.95, 'c'), (1.95, 'd')],
    seconds=2,
  )
  # 'd' would begin with the first tick after the end.
  assert list(piece.sections) == [0, 5]
  np.testing.assert_array_equal(
    piece.sections[5], music_lm.conditioner.embed_text(['c'])[0]
  )


def test_a_clip_to_go_on_from_is_the_prompt_where_there_is_no_other(music_lm):
  tone = np.sin(np.arange(31)).astype(np.float32)
  rate = {'sample_rate_hz': toys.RATE_HZ}
  (alone,) = pieces(music_lm.conditioner, continue_from=tone, **rate)
  (with_text,) = pieces(
    music_lm.conditioner, continue_from=tone, prompts='a', **rate
  )
  (heard,) = pieces(music_lm.conditioner, prompt_audio=tone, **rate)
  np.testing.assert_array_equal(alone.sections[0], heard.sections[0])
  assert not np.array_equal(alone.sections[0], with_text.sections[0])
  assert (alone.label, heard.label) == ('continuation', 'audio')


def test_rows_are_grouped_by_when_they_change():
  sections = [{0: None}, {0: None, 7: None}, {0: None}]
  assert prompting.together(sections) == {(0,): [0, 2], (0, 7): [1]}


def test_a_model_with_a_conditioner_wants_a_prompt(music_lm):
  with pytest.raises(ValueError, match='There is no prompt'):
    music_lm.generate(seconds=1)
