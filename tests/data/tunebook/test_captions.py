# SPDX-License-Identifier: Apache-2.0
import pathlib
import re
from collections.abc import Iterator

import pytest

from musiclm_jax.data.tunebook import (
  arrangement,
  captions,
  catalogue,
  instruments,
  rendering,
)
from tests.data.tunebook import pieces

# The test's own reading of each word.
DYNAMICS = {
  'very soft': 'pp',
  'very quiet': 'pp',
  'soft': 'p',
  'quiet': 'p',
  'moderately soft': 'mp',
  'rather soft': 'mp',
  'moderately loud': 'mf',
  'rather loud': 'mf',
  'loud': 'f',
  'strong': 'f',
  'very loud': 'ff',
  'very strong': 'ff',
}
TYPES = ('slip jig', 'double jig', 'jig', 'reel', 'chorale', 'hornpipe')
COUNTS = {'two': 2, 'three': 3}


def longest_first(words: Iterator[str]) -> str:
  return '|'.join(sorted(map(re.escape, words), key=len, reverse=True))


def said(caption: str) -> dict[str, set[str]]:
  """Everything that a caption claims, by the kind of fact."""
  # Matched and removed in this order: 'reeds and organ' holds no instrument.
  text = ' ' + caption.lower() + ' '
  patterns = {
    'families': longest_first(instruments.FAMILIES),
    'instruments': '(?:two |three )?(?:'
    + longest_first(name.lower() for name in instruments.INSTRUMENTS)
    + ')s?',
    'bpm': r'\d+ bpm|\d+ (?:dotted )?(?:half|quarter|eighth) notes? a minute'
    r'|\d+ (?:dotted )?(?:half|quarter|eighth) notes a minute',
    'meter': r'\d+/\d+',
    'key': r'[a-g][b#]? (?:major|minor|dorian|mixolydian|lydian|phrygian)',
    'dynamics': rf'(?:{longest_first(DYNAMICS)})(?:ly)?',
    'tune_type': longest_first(TYPES),
    'tempo_word': 'very slow|very fast|slow|fast|moderate',
    'texture': 'in four parts|in octaves|doubled an octave lower|drone|solo'
    '|alone',
    'composer': 'j. s. bach|johann sebastian bach',
  }
  found = {}
  for kind, pattern in patterns.items():
    found[kind] = set(re.findall(rf'(?<=[\W])(?:{pattern})(?=\W)', text))
    text = re.sub(rf'(?<=[\W])(?:{pattern})(?=\W)', '#', text)
  found['rest'] = set(re.findall(r"[\w']+", text))
  return found


PLAIN_WORDS = set(
  'a an the in for of at it is by and above over held played playing tempo'
  ' time tune melody piece sound'.split()
)


def check(caption: str, facts: dict) -> None:
  claims = said(caption)
  names = {name.lower() for name in facts['instruments']}
  for claim in claims['instruments']:
    many = re.fullmatch('(two|three) (.*)s', claim)
    name = many[2] if many else claim
    assert name in names, caption
    if many:
      players = [player.lower() for player in facts['players']]
      assert players.count(name) == COUNTS[many[1]], caption
  assert claims['families'] <= set(facts['families'])
  for claim in claims['bpm']:
    number, unit = claim.split(' ', 1)
    assert int(number) == facts['tempo_bpm'], caption
    assert unit in ('bpm', f'{facts["tempo_beat"]}s a minute')
  assert claims['meter'] <= {facts['meter']}
  assert claims['key'] <= {f'{facts["key"]} {facts["mode"]}'.lower()}
  for claim in claims['dynamics']:
    assert DYNAMICS[claim.removesuffix('ly')] == facts['dynamics'], caption
  assert claims['tune_type'] <= {facts['tune_type']}
  assert claims['tempo_word'] <= {facts['tempo_word']}
  textures = {
    'in four parts': arrangement.CHORALE,
    'in octaves': arrangement.OCTAVES,
    'doubled an octave lower': arrangement.OCTAVES,
    'drone': arrangement.DRONE,
    'solo': arrangement.SOLO,
    'alone': arrangement.SOLO,
  }
  assert {textures[c] for c in claims['texture']} <= {facts['texture']}
  assert bool(claims['composer']) <= bool(facts['composer'])
  assert claims['rest'] <= PLAIN_WORDS, claims['rest'] - PLAIN_WORDS


@pytest.fixture(scope='module')
def tunes(tmp_path_factory: pytest.TempPathFactory) -> list[catalogue.Tune]:
  folder: pathlib.Path = tmp_path_factory.mktemp('corpus')
  every = catalogue.tunes(pieces.write_folder(folder))
  return [tune for tune in every if tune.score]


def test_a_caption_says_nothing_that_is_not_a_fact(
  tunes: list[catalogue.Tune],
):
  checked = 0
  for tune in tunes:
    for number in range(23):
      facts = rendering.describe(tune, rendering=number, seed=0)
      for caption in facts.captions:
        check(caption, facts.facts)
        checked += 1
  assert checked > 500


def test_the_check_itself_can_fail(tunes: list[catalogue.Tune]):
  described = rendering.describe(tunes[0], rendering=0, seed=0)
  [full, *_] = described.captions
  facts = dict(described.facts)
  facts['instruments'] = facts['players'] = ['kazoo']
  with pytest.raises(AssertionError):
    check(full, facts)
  with pytest.raises(AssertionError):
    check('A jig on spoons.', dict(described.facts))


def test_captions_of_one_clip_differ_in_wording_and_length(
  tunes: list[catalogue.Tune],
):
  described = [
    rendering.describe(tunes[0], rendering=number, seed=0)
    for number in range(31)
  ]
  for one in described:
    assert len(set(one.captions)) == 4
    for caption in one.captions:
      assert caption[0] == caption[0].upper() and '  ' not in caption
  assert len({caption for one in described for caption in one.captions}) > 110


def test_a_fact_that_is_missing_is_not_spoken_of(tunes: list[catalogue.Tune]):
  facts = dict(rendering.describe(tunes[0], rendering=0, seed=0).facts)
  facts.update(key=None, mode=None, tune_type=None)
  for number in range(17):
    draw = arrangement.generator(number)
    for caption in captions.write_captions(facts, draw=draw):
      claims = said(caption)
      assert not claims['key'] and not claims['tune_type']
      assert 'None' not in caption and ' ,' not in caption


def test_titles_are_not_in_captions(tunes: list[catalogue.Tune]):
  for tune in tunes:
    described = rendering.describe(tune, rendering=0, seed=0)
    assert described.facts['title'] == tune.titles[0]
    for caption in described.captions:
      assert tune.titles[0].lower() not in caption.lower()


@pytest.mark.parametrize(
  ('bpm', 'word'),
  [(59, 'very slow'), (60, 'slow'), (111, 'moderate'), (152, 'very fast')],
)
def test_a_tempo_word_is_a_range_of_beats_a_minute(bpm: int, word: str):
  assert captions.tempo_word(bpm) == word


@pytest.mark.parametrize('name', captions.STATED_FACTS)
def test_clips_that_agree_on_what_a_caption_states_could_swap_it(
  name: str, tunes: list[catalogue.Tune]
):
  place = list(captions.STATED_FACTS).index(name)
  # A number of beats is spoken of where the word for it is.
  tempo = ('tempo_word', 'tempo_bpm', 'tempo_beat')
  stated = (*captions.STATED_FACTS[name], *tempo)
  every = [
    dict(rendering.describe(tune, rendering=number, seed=0).facts)
    for tune in tunes
    for number in range(3)
  ]
  checked = 0
  for facts, other in zip(every, every[1:] + every[:1]):
    # 'in four parts' goes with the type of tune.
    if arrangement.CHORALE in {facts['texture'], other['texture']}:
      continue
    alike = other | {fact: facts[fact] for fact in stated}
    for number in range(5):
      draw = arrangement.generator(number)
      caption = captions.write_captions(alike, draw=draw)[place]
      check(caption, facts)
      checked += 1
  assert checked > 20
