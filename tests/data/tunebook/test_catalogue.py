# SPDX-License-Identifier: Apache-2.0
import collections
import pathlib

import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tunebook import catalogue
from tests.data.tunebook import pieces


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  return pieces.write_folder(tmp_path)


def test_files_about_rights_are_left_out_and_counted(folder: pathlib.Path):
  ids = [tune.id for tune in catalogue.tunes(folder)]
  assert ids == [
    'ryansMammoth/MadeUpJig.abc/1',
    'oneills1850/0001-0050.abc/1',
    'oneills1850/0001-0050.abc/2',
    'oneills1850/0001-0050.abc/3',
    'airdsAirs/book1.abc/1',
    'airdsAirs/book1.abc/2',
    'airdsAirs/book1.abc/3',
    'bach/bwv997.mxl/1',
    'bach/bwv998.xml/1',
  ]
  assert catalogue.excluded(folder) == {'airdsAirs': 1, 'bach': 1}


def test_a_title_or_a_slurred_c_is_no_line_about_rights(folder: pathlib.Path):
  path = folder / 'oneills1850' / '0001-0050.abc'
  assert '(c)' in path.read_text() and 'Rights' in path.read_text()
  assert not catalogue.rights_notice(path)
  assert catalogue.rights_notice(folder / 'airdsAirs' / 'book2.abc')


def test_a_tune_that_cannot_be_read_says_why(folder: pathlib.Path):
  tunes = {tune.id: tune for tune in catalogue.tunes(folder)}
  odd = tunes['oneills1850/0001-0050.abc/2']
  assert odd.score is None and "'&" in odd.problem
  assert odd.titles == ('Odd Bar',)
  assert 'several voices' in tunes['airdsAirs/book1.abc/2'].problem


def test_one_melody_is_one_group_under_two_titles_and_in_two_keys(
  folder: pathlib.Path,
):
  groups = catalogue.groups(catalogue.tunes(folder))
  jig, again = 'ryansMammoth/MadeUpJig.abc/1', 'airdsAirs/book1.abc/1'
  assert groups[jig] == groups[again]
  assert groups['bach/bwv997.mxl/1'] == groups['bach/bwv998.xml/1']


def test_one_title_is_one_group_in_two_collections(folder: pathlib.Path):
  groups = catalogue.groups(catalogue.tunes(folder))
  long_reel, other = 'oneills1850/0001-0050.abc/1', 'airdsAirs/book1.abc/3'
  assert groups[long_reel] == groups[other] == 'longreel'
  assert groups['ryansMammoth/MadeUpJig.abc/1'] != groups[long_reel]


@pytest.mark.parametrize(
  'title',
  ['The Merry Tailor', 'Merry Tailor, The', 'MERRY TAILOR -- REEL.'],
)
def test_spellings_of_a_title_are_one(title: str):
  assert catalogue.plain_title(title) == 'merrytailor'


@pytest.mark.slow
def test_no_melody_of_the_real_corpus_is_in_two_splits():
  tunes = list(catalogue.tunes(catalogue.corpus_folder()))
  groups = catalogue.groups(tunes)
  titles = collections.defaultdict(set)
  melodies = collections.defaultdict(set)
  for tune in tunes:
    split = sources.split_of(groups[tune.id])
    for title in tune.titles:
      titles[catalogue.plain_title(title)].add(split)
    if tune.score:
      melody = tune.score.parts[0][:32]
      tonic = melody[0][2]
      melodies[tuple(note[2] - tonic for note in melody)].add(split)
  assert len(tunes) > 4000
  assert sum(tune.score is None for tune in tunes) < 0.02 * len(tunes)
  assert {len(splits) for splits in titles.values()} == {1}
  shares = collections.Counter(sources.split_of(g) for g in groups.values())
  assert 0.88 < shares['train'] / len(tunes) < 0.92
  assert min(shares['test'], shares['validation']) > 0.04 * len(tunes)
  straddling = sum(len(splits) > 1 for splits in melodies.values())
  assert straddling <= 0.001 * len(melodies)
