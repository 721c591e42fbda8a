# SPDX-License-Identifier: Apache-2.0
"""Which tunes there are, which may be used, and which are the same melody.

The tunes are the files of four collections that the pip package music21
carries. The package is never imported: its folder is looked up, its files are
read. A file with a line about rights is left out.

Two tunes belong to one group if they share a title, or if their first four
or eight bars have the same outline (the same melody goes by many names). A group is
never split between training and evaluation.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from musiclm_jax.data.tunebook import musicxml, scores

COLLECTIONS = ('ryansMammoth', 'oneills1850', 'airdsAirs', 'bach')

_RIGHTS = re.compile(
  r'copyright|©|\(c\)|<rights|rights reserved|licen[cs]e|permission', re.I
)
_ARTICLE = re.compile(r'^(the|an|a)\s+|,\s*(the|an|a)\s*$', re.I)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune:
  """One tune that may be used.

  Attributes:
    id: 'collection/file/number in it', stable for one music21 release.
    titles: As the source has them, the first one first.
    score: Its notes and facts; None if it cannot be read.
    problem: Why it cannot be read; empty if it can.
  """

  id: str
  titles: tuple[str, ...]
  score: scores.Score | None = None
  problem: str = ''


def corpus_folder() -> pathlib.Path:
  """The corpus inside the installed music21, which is not imported."""
  found = importlib.util.find_spec('music21')
  if found is None:
    raise ValueError(
      'The tunebook data set reads the tunes of the music21 package, which is'
      ' not installed; run `pip install music21`.'
    )
  return pathlib.Path(found.submodule_search_locations[0]) / 'corpus'


def tunes(folder: pathlib.Path) -> Iterator[Tune]:
  """Every tune that may be used, read, always in the same order."""
  for collection in COLLECTIONS:
    for path in _files(folder / collection):
      if not rights_notice(path):
        for number in range(1, _count(path) + 1):
          yield read_tune(f'{collection}/{path.name}/{number}', folder=folder)


def excluded(folder: pathlib.Path) -> Mapping[str, int]:
  """How many files of each collection a line about rights leaves out."""
  return collections.Counter(
    collection
    for collection in COLLECTIONS
    for path in _files(folder / collection)
    if rights_notice(path)
  )


def read_tune(tune_id: str, *, folder: pathlib.Path) -> Tune:
  """Reads one tune by its id."""
  name, _, number = tune_id.rpartition('/')
  path = folder / name
  titles = (path.stem.split('-')[0],)
  try:
    if path.suffix == '.abc':
      text = scores.split_tunes(path)[int(number) - 1]
      titles = _titles(text) or titles
      score = scores.read_abc(text)
    else:
      score = scores.read_chorale(path)
  except ValueError as error:
    return Tune(id=tune_id, titles=titles, problem=str(error))
  return Tune(id=tune_id, titles=titles, score=score)


def rights_notice(path: pathlib.Path) -> str:
  """The first words about rights or permission in a file; empty if none.

  Titles of tunes are passed over ('The Book of Rights').
  """
  if path.suffix == '.abc':
    # Only header fields: a note c under a slur is '(c)'.
    lines = path.read_text(encoding='latin-1').splitlines()
    text = '\n'.join(s for s in lines if re.match('[A-SU-Z]:|%', s))
  else:
    text = musicxml.read_text(path)
  found = _RIGHTS.search(text)
  return found[0] if found else ''


def groups(all_tunes: Iterable[Tune]) -> dict[str, str]:
  """Tune id → the name of its group, the same for every copy of a melody."""
  by_mark: dict[str, list[str]] = collections.defaultdict(list)
  marks_of = {tune.id: _marks(tune) for tune in all_tunes}
  for tune_id, marks in marks_of.items():
    for mark in marks:
      by_mark[mark].append(tune_id)
  group_of: dict[str, str] = {}
  for first in marks_of:
    if first in group_of:
      continue
    members, seen, waiting = {first}, set(), list(marks_of[first])
    while waiting:
      mark = waiting.pop()
      if mark not in seen:
        seen.add(mark)
        fresh = set(by_mark[mark]) - members
        members |= fresh
        waiting.extend(mark for tune in fresh for mark in marks_of[tune])
    name = min(mark for mark in seen if mark.startswith('title:'))
    group_of.update(dict.fromkeys(members, name.removeprefix('title:')))
  return group_of


def plain_title(title: str) -> str:
  """'Merry Tailor, The -- REEL' and 'The Merry Tailor.' both: merrytailor."""
  title = _ARTICLE.sub('', title.split(' -- ')[0].strip(' .'))
  letters = unicodedata.normalize('NFKD', title.lower())
  return ''.join(letter for letter in letters if letter.isalnum())


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  suffixes = ('.abc', '.mxl', '.xml')
  return sorted(p for p in folder.iterdir() if p.suffix in suffixes)


def _count(path: pathlib.Path) -> int:
  return len(scores.split_tunes(path)) if path.suffix == '.abc' else 1


def _titles(text: str) -> tuple[str, ...]:
  lines = [line.strip() for line in text.splitlines()]
  titles = [line[2:].strip() for line in lines if line.startswith('T:')]
  return tuple(title for title in titles if title)


def _marks(tune: Tune) -> list[str]:
  """What it may share with another copy of the same melody."""
  marks = [f'title:{plain_title(title)}' for title in tune.titles]
  if tune.score:
    for outline in tune.score.outlines:
      marks.append('outline:' + ' '.join(map(str, outline)))
  return marks
