# SPDX-License-Identifier: Apache-2.0
"""The nearest sentences, and rare ones more often than those that fit all."""

import collections

import numpy as np
import pytest

from musiclm_jax.tokenization import pseudo_captions


def test_candidates_are_the_nearest_sentences_in_order():
  draw = np.random.default_rng(0)
  music = draw.standard_normal((5, 7)).astype(np.float32)
  sentences = draw.standard_normal((101, 7)).astype(np.float32)
  found = pseudo_captions.candidates(music, sentences, num_candidates=11)
  expected = np.argsort(-(music @ sentences.T), axis=1)[:, :11]
  np.testing.assert_array_equal(found, expected)


def test_a_sentence_is_drawn_by_one_over_how_many_clips_it_is_near():
  # Sentence 0 is near all 2,003 clips; each has another one of its own.
  num_clips = 2003
  chosen = np.stack([np.zeros(num_clips, int), np.arange(1, num_clips + 1)], 1)
  drawn = pseudo_captions.draw(
    chosen, clip_ids=[f'{n}' for n in range(num_clips)], num_captions=1
  )
  # Expected once.
  assert np.count_nonzero(drawn == 0) <= 5
  # Near every third clip only: 668 clips, against 1 of their own.
  sentence = np.where(np.arange(num_clips) % 3 == 0, 0, num_clips + 1)
  pairs = np.stack([sentence, np.arange(num_clips) % 2 + num_clips + 7], 1)
  drawn = pseudo_captions.draw(
    pairs, clip_ids=[f'{n}' for n in range(num_clips)], num_captions=1
  )
  counts = collections.Counter(drawn[sentence == 0, 0].tolist())
  share = counts[0] / sum(counts.values())
  near = np.count_nonzero(sentence == 0)
  expected = (1 / near) / (1 / near + 1 / (num_clips / 2))
  assert share == pytest.approx(expected, abs=0.05)  # 0.6; 2.6 sigma.


def test_a_clips_captions_differ_and_keep_the_order_of_nearness():
  chosen = np.random.default_rng(0).permutation(53)[:10][None].repeat(31, 0)
  drawn = pseudo_captions.draw(
    chosen, clip_ids=[f'{n}' for n in range(31)], num_captions=3
  )
  assert drawn.shape == (31, 3)
  for row in drawn:
    places = [chosen[0].tolist().index(n) for n in row]
    assert places == sorted(set(places))
  assert len(np.unique(drawn, axis=0)) > 10


def test_a_draw_depends_on_seed_and_clip_and_not_on_its_place():
  chosen = np.arange(10)[None].repeat(7, 0)
  ids = list('abcdefg')

  def draw(ids, **changes):
    return pseudo_captions.draw(chosen, clip_ids=ids, num_captions=3, **changes)

  drawn, backwards = draw(ids), draw(ids[::-1])
  np.testing.assert_array_equal(drawn, backwards[::-1])
  assert not np.array_equal(drawn, draw(ids, seed=1))


def test_more_than_there_is_cannot_be_asked_for():
  with pytest.raises(ValueError, match='4 candidates of 3 sentences'):
    pseudo_captions.candidates(
      np.ones((1, 2)), np.ones((3, 2)), num_candidates=4
    )
  with pytest.raises(ValueError, match='4 captions of 3 candidates'):
    pseudo_captions.draw(np.arange(3)[None], clip_ids=['a'], num_captions=4)
