# SPDX-License-Identifier: Apache-2.0
"""Votes to statistics, by hand and beside SciPy."""

import json

import pytest
from scipy import stats

from musiclm_jax.evaluation import listening_votes


def write(path, **fields):
  path.write_text(json.dumps(fields))
  return path


def key(path, *, page='p', systems=('a', 'b'), swapped=(False, True, False)):
  pairs = [{'swapped': side} for side in swapped]
  return write(path, page=page, systems=list(systems), pairs=pairs)


def votes(path, preferences, *, page='p'):
  made = [{'pair': n, 'preference': p} for n, p in enumerate(preferences)]
  return write(path, page=page, votes=made)


def test_sides_are_put_back_and_listeners_pooled(tmp_path):
  found = listening_votes.read(
    [
      votes(tmp_path / 'anna', [-2, -2, 0]),
      votes(tmp_path / 'ben', [1, 1]),
      votes(tmp_path / 'carl', [2], page='q'),
    ],
    key_paths=[
      key(tmp_path / 'k1'),
      key(tmp_path / 'k2', page='q', systems=('a', 'c'), swapped=[True]),
    ],
  )
  assert found == {('a', 'b'): [-2, 2, 0, 1, -1], ('a', 'c'): [-2]}


def test_systems_the_other_way_round_are_the_same_comparison(tmp_path):
  pages = [
    key(tmp_path / 'k1', swapped=[False]),
    key(tmp_path / 'k2', page='q', systems=('b', 'a'), swapped=[False, True]),
  ]
  found = listening_votes.read(
    [votes(tmp_path / 'v', [-2]), votes(tmp_path / 'w', [1, 2], page='q')],
    key_paths=pages,
  )
  # 1 for the second of page q, which is 'a', and -2 for its first, 'b'.
  assert found == {('a', 'b'): [-2, -1, 2]}


def test_votes_of_another_page_and_what_is_no_vote_are_refused(tmp_path):
  keys = [key(tmp_path / 'k')]
  with pytest.raises(ValueError, match="page 'q'; the keys given are of p"):
    listening_votes.read([votes(tmp_path / 'v', [1], page='q')], key_paths=keys)
  for wrong in ([3], [0, 0, 0, 0], [None]):
    with pytest.raises(ValueError, match='is no vote; a pair is 0 to 2'):
      listening_votes.read([votes(tmp_path / 'v', wrong)], key_paths=keys)
  with pytest.raises(ValueError, match='no votes'):
    listening_votes.read([votes(tmp_path / 'v', [])], key_paths=keys)
  (tmp_path / 'v').write_text('[')
  with pytest.raises(ValueError, match='v is not JSON'):
    listening_votes.read([tmp_path / 'v'], key_paths=keys)
  with pytest.raises(ValueError, match='v has no page and pairs; votes are'):
    listening_votes.read(keys, key_paths=[write(tmp_path / 'v', a=1)])
  with pytest.raises(ValueError, match='k has no page and votes; votes are'):
    listening_votes.read(keys, key_paths=keys)


def test_wins_ties_and_the_test_by_hand():
  (found,) = listening_votes.compare({('a', 'b'): [-2, -1, 0, 1, -2, -1, -2]})
  assert (found.wins, found.ties) == ((5, 1), 1)
  assert found.mean_preference == -1
  decided = [-2, -1, 1, -2, -1, -2]
  assert found.p_value == stats.wilcoxon(decided).pvalue
  assert not found.is_significant
  (found,) = listening_votes.compare({('a', 'b'): [0, 0]})
  assert (found.p_value, found.ties) == (1.0, 2)


def test_more_comparisons_ask_for_more_evidence():
  # Ten equal votes, all one way: p is 2 / 2**10.
  clear, even = [1] * 10, [1, -1] * 5
  (alone,) = listening_votes.compare({('a', 'b'): clear})
  assert 0.001 < alone.p_value < 0.01 and alone.is_significant
  many = {('a', 'b'): clear} | {('a', str(n)): even for n in range(9)}
  found = listening_votes.compare(many)
  assert found[0].p_value == alone.p_value
  assert not any(comparison.is_significant for comparison in found)
  fields = listening_votes.to_json(found)
  assert fields['level'] == pytest.approx(0.001)
  assert fields['wins']['b'] == (10, 10)
  assert fields['wins']['a'] == (45, 100)
  text = listening_votes.to_markdown([alone])
  assert '| a | b | 0 : 10 | 0 | +1.00 | 0.002 * |' in text
