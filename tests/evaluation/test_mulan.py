# SPDX-License-Identifier: Apache-2.0
"""Spaces whose retrieval is known: perfect, blind, and halved by codes."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.evaluation import code_agreement, mulan

KINDS = (
  mulan.CaptionKind(name='sound', place=0, facts=('instruments', 'loud')),
  mulan.CaptionKind(name='tags', place=1, facts=('instruments',)),
)
INSTRUMENTS = ('flute', 'harp', 'oboe')
NUM_CLIPS = 48  # Of 24 tunes; clip n and n + 24 are of tune n.


def clip(n):
  return mulan.held_out_clip(
    tune=f'tune {n % 24}',
    captions=(f'A wording of {n}.', f'Another wording of {n}.'),
    facts={'instruments': [INSTRUMENTS[n % 3]], 'loud': n % 16},
    kinds=KINDS,
    tag_facts=('instruments', 'families'),
  )


CLIPS = [clip(n) for n in range(NUM_CLIPS)]


def one_hot(numbers):
  return np.eye(NUM_CLIPS + 3, dtype=np.float32)[np.array(list(numbers))]


def system(name='trained', *, sound, tags):
  """Clips by instrument and loudness; captions by what `sound`, `tags` say."""
  clips = one_hot(range(NUM_CLIPS))
  clips = clips + one_hot(NUM_CLIPS + n % 3 for n in range(NUM_CLIPS))
  return mulan.System(
    name=name,
    audio=clips,
    texts=(one_hot(sound), one_hot(tags)),
    tags={'instruments': one_hot(NUM_CLIPS + n for n in range(3))},
  )


PERFECT = system(
  sound=range(NUM_CLIPS), tags=[NUM_CLIPS + n % 3 for n in range(NUM_CLIPS)]
)


@pytest.fixture(scope='module')
def report():
  deaf = dataclasses.replace(
    PERFECT, name='untrained', audio=np.ones_like(PERFECT.audio)
  )
  codes = code_agreement.Codes(
    windows=np.array([[0, 1], [0, 2], [0, 1]]),
    clips=np.zeros((NUM_CLIPS, 2), int),
    texts=(np.zeros((NUM_CLIPS, 2), int),) * 2,
    codebook_size=4,
  )
  return mulan.evaluate([PERFECT, deaf], CLIPS, kinds=KINDS, codes=codes)


def figures(report, kind, name, direction):
  [found] = [kinds for kinds in report.kinds if kinds.name == kind]
  [found] = [
    each
    for each in found.retrieval
    if (each.system, each.direction) == (name, direction)
  ]
  return found


def test_a_perfect_space_serves_every_query(report):
  for kind in ('all', 'sound', 'tags'):
    for direction in (mulan.TEXT_TO_AUDIO, mulan.AUDIO_TO_TEXT):
      found = figures(report, kind, 'trained', direction)
      assert found.served[1].mean == found.served[1].low == 1.0
      assert found.median_rank.mean == 1


def test_a_deaf_space_serves_as_many_as_chance_says(report):
  [tags] = [kind for kind in report.kinds if kind.name == 'tags']
  found = figures(report, 'tags', 'untrained', mulan.TEXT_TO_AUDIO)
  # A third of the clips are right answers.
  assert tags.answers == 16
  assert tags.chance.served[1] == pytest.approx(1 / 3)
  assert found.served[1].low <= tags.chance.served[1] <= found.served[1].high
  assert found.mean_average_precision.mean == pytest.approx(
    tags.chance.mean_average_precision, abs=0.1
  )


def test_clips_with_equal_facts_are_right_answers_whatever_the_wording(report):
  [sound] = [kind for kind in report.kinds if kind.name == 'sound']
  # Clip n and any n + 48 agree on both; 48 is beyond the last.
  assert sound.answers == 1
  every = next(kind for kind in report.kinds if kind.name == 'all')
  assert every.answers == (1 + 16) / 2
  assert every.chance.served[10] == pytest.approx(
    (
      10 / 48
      + next(k for k in report.kinds if k.name == 'tags').chance.served[10]
    )
    / 2
  )


def test_intervals_are_over_tunes(report):
  assert (report.num_clips, report.num_tunes) == (48, 24)
  for kind in ('all', 'tags'):
    found = figures(report, kind, 'trained', mulan.AUDIO_TO_TEXT)
    assert found.served[10].num_clips == 24


def test_tags_are_scored_by_their_texts(report):
  areas = {
    found.system: (found.mean_area.mean, found.areas)
    for found in report.tags
    if found.fact == 'instruments'
  }
  assert areas['trained'][0] == 1
  assert set(areas['trained'][1]) == set(INSTRUMENTS)
  assert areas['untrained'][0] == 0.5
  # No clip has families, so there is nothing to test.
  assert {found.fact for found in report.tags} == {'instruments'}


def test_codes_are_measured_if_there_are_any(report):
  assert [level.music.used_share for level in report.levels] == [0.25, 0.5]
  assert report.num_windows == 3
  without = mulan.evaluate([PERFECT], CLIPS, kinds=KINDS[:1])
  assert (without.levels, without.num_windows) == ((), 0)


def test_captions_without_facts_are_equal_by_their_text():
  kinds = (mulan.CaptionKind(name='first'),)
  keys = [
    mulan.held_out_clip(
      tune='a', captions=(text,), facts={}, kinds=kinds, tag_facts=()
    ).keys
    for text in ('Slow  piano.', 'slow piano.', 'Slow harp.')
  ]
  assert keys[0] == keys[1] != keys[2]


def test_a_clip_without_its_caption_or_fact_is_told_apart():
  asked = {'tune': 'a', 'kinds': KINDS, 'tag_facts': ()}
  facts = {'instruments': ['harp'], 'loud': 1}
  two = ('one', 'two')
  assert mulan.held_out_clip(captions=two, facts=facts, **asked)
  assert mulan.held_out_clip(captions=('one',), facts=facts, **asked) is None
  assert mulan.held_out_clip(captions=two, facts={}, **asked) is None
