# SPDX-License-Identifier: Apache-2.0
"""The votes of a listening test, and what they amount to.

MusicLM (Agostinelli et al., 2023), section 5.2 and table 1: how often each system
was preferred, strongly or slightly, and a Wilcoxon signed-rank test of each two
systems whose level is divided by the number of such tests (Bonferroni). As there,
every vote counts by itself, whoever gave it, and pages that have two systems the
other way round are one comparison. Ours: votes without a preference are left out of
the test, as Wilcoxon (1945) does.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from musiclm_jax.evaluation import report

LEVEL = 0.01  # The paper's, before it is divided.

_Path = str | os.PathLike[str]
Votes = Mapping[tuple[str, str], Sequence[int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """Two systems on the same prompts.

  Attributes:
    systems: Their names.
    wins: Votes for each.
    ties: Votes for neither.
    mean_preference: From -2, the first much better, to 2.
    p_value: Of the signed-rank test, two-sided, not yet corrected.
    is_significant: Whether it is below the level over the number of tests.
  """

  systems: tuple[str, str]
  wins: tuple[int, int]
  ties: int
  mean_preference: float
  p_value: float
  is_significant: bool


def read(
  vote_paths: Sequence[_Path], *, key_paths: Sequence[_Path]
) -> dict[tuple[str, str], list[int]]:
  """Preferences by systems, -2 for the first of them to 2 for the second.

  Args:
    vote_paths: Files that listeners saved.
    key_paths: Of the pages that they heard.

  Raises:
    ValueError: Votes are of none of these pages, or no votes of it.
  """
  keys = {}
  for path in key_paths:
    key = _load(path, wanted='pairs')
    keys[key['page']] = key
  found = collections.defaultdict(list)
  for path in vote_paths:
    fields = _load(path, wanted='votes')
    key = keys.get(fields.get('page'))
    if key is None:
      raise ValueError(
        f'{path} has votes of page {fields.get("page")!r}; the keys given are of'
        f' {", ".join(sorted(keys))}. Give the key written beside its page.'
      )
    systems, sign = tuple(key['systems']), 1
    if systems[::-1] in found:
      systems, sign = systems[::-1], -1
    for vote in fields['votes']:
      found[systems].append(sign * _preference(vote, key, path=path))
  if not found:
    raise ValueError('There are no votes; give files that have some.')
  return dict(found)


def compare(votes: Votes) -> list[Comparison]:
  """The statistics of every two systems that were compared."""
  found = []
  for systems, preferences in votes.items():
    values = np.array(preferences)
    decided = values[values != 0]
    p_value = 1.0
    if decided.size:
      p_value = float(stats.wilcoxon(decided).pvalue)
    found.append(
      Comparison(
        systems=systems,
        wins=(int(np.sum(values < 0)), int(np.sum(values > 0))),
        ties=int(np.sum(values == 0)),
        mean_preference=float(values.mean()),
        p_value=p_value,
        is_significant=p_value < LEVEL / len(votes),
      )
    )
  return found


def to_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
  return {
    'level': LEVEL / len(comparisons),
    'wins': _wins(comparisons),
    'comparisons': [dataclasses.asdict(found) for found in comparisons],
  }


def to_markdown(comparisons: Sequence[Comparison]) -> str:
  """Wins of each system, then each two of them."""
  level = LEVEL / len(comparisons)
  pairs = [['first', 'second', 'wins', 'ties', 'mean, -2 to 2', 'p']]
  for found in comparisons:
    pairs.append(
      [
        *found.systems,
        f'{found.wins[0]} : {found.wins[1]}',
        str(found.ties),
        f'{found.mean_preference:+.2f}',
        f'{found.p_value:.2g}{" *" if found.is_significant else ""}',
      ]
    )
  wins = [['system', 'wins', 'votes']]
  wins += [[name, *map(str, row)] for name, row in _wins(comparisons).items()]
  return (
    '\n\n'.join(
      [
        report.table(wins),
        'Wilcoxon signed-rank test of the votes with a preference, two-sided; *:'
        f' p below {LEVEL} / {len(comparisons)} = {level:.2g} (Bonferroni).',
        report.table(pairs),
      ]
    )
    + '\n'
  )


def _wins(comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
  """Votes for each system, and votes it was part of."""
  wins, votes = collections.Counter(), collections.Counter()
  for found in comparisons:
    for system, number in zip(found.systems, found.wins):
      wins[system] += number
      votes[system] += sum(found.wins) + found.ties
  return {system: (wins[system], votes[system]) for system in votes}


def _preference(
  vote: Mapping[str, int], key: Mapping[str, Any], *, path: _Path
) -> int:
  """The vote with the sides put back."""
  pair, preference = vote.get('pair'), vote.get('preference')
  if pair not in range(len(key['pairs'])) or preference not in range(-2, 3):
    raise ValueError(
      f'{path}: {vote} is no vote; a pair is 0 to {len(key["pairs"]) - 1}, a'
      ' preference -2 to 2.'
    )
  return -preference if key['pairs'][pair]['swapped'] else preference


def _load(path: _Path, *, wanted: str) -> dict[str, Any]:
  try:
    fields = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except json.JSONDecodeError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  if not isinstance(fields, dict) or not {'page', wanted} <= fields.keys():
    raise ValueError(
      f'{path} has no page and {wanted}; votes are what listeners saved, and the'
      ' key is what was written beside the page.'
    )
  return fields
