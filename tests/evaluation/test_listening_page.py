# SPDX-License-Identifier: Apache-2.0
"""The page's voting, run by a JavaScript engine without a page."""

import json

import py_mini_racer
import pytest

from musiclm_jax.evaluation import listening_page


@pytest.fixture
def voting():
  engine = py_mini_racer.MiniRacer()
  engine.eval(listening_page.VOTING)
  engine.eval("const session = newSession('abc', 3);")

  def run(*steps):
    results = [engine.eval(step) for step in steps]
    return results[-1]

  return run


HEAR = 'hear(session, 0); hear(session, 1);'


def saved(voting):
  return json.loads(voting('JSON.stringify(result(session))'))


def test_votes_lead_through_the_pairs(voting):
  for preference in (-2, 0, 1):
    assert voting(HEAR, f'vote(session, {preference})')
  assert voting('isOver(session)')
  assert not voting(HEAR, 'vote(session, 1)')
  assert saved(voting) == {
    'page': 'abc',
    'votes': [
      {'pair': pair, 'preference': preference}
      for pair, preference in enumerate([-2, 0, 1])
    ],
  }


def test_both_clips_are_heard_before_a_vote(voting):
  assert not voting('vote(session, 1)')
  assert not voting('hear(session, 1);', 'vote(session, 1)')
  assert voting('hear(session, 0);', 'vote(session, 1)')
  assert not voting('vote(session, 1)'), 'what was heard is of the pair before'
  assert len(saved(voting)['votes']) == 1


def test_only_the_five_steps_are_votes(voting):
  for wrong in ('3', '-3', '0.5', "'1'", 'undefined'):
    assert not voting(HEAR, f'vote(session, {wrong})')
  assert saved(voting)['votes'] == []


def test_going_back_changes_a_vote_and_stays_within_the_pairs(voting):
  voting(HEAR, 'vote(session, 2)', 'go(session, -5)')
  assert voting('session.place') == 0
  voting(HEAR, 'vote(session, -1)')
  assert saved(voting)['votes'] == [{'pair': 0, 'preference': -1}]
  assert voting('go(session, 99); session.place') == 3
