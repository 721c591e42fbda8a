# SPDX-License-Identifier: Apache-2.0
"""Captions of a rendering, in varied wording, from its facts alone.

Each caption is a frame whose slots are filled by phrases; a phrase exists only
where its fact does. Titles never appear, so that a caption cannot be matched
to a tune by name.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.data.tunebook import arrangement as arrangements

ADVERBS = {
  'pp': ('very softly', 'very quietly'),
  'p': ('softly', 'quietly'),
  'mp': ('moderately softly', 'rather softly'),
  'mf': ('moderately loudly', 'rather loudly'),
  'f': ('loudly', 'strongly'),
  'ff': ('very loudly', 'very strongly'),
}
# Upper bounds in beats a minute of each word; ours.
TEMPO_WORDS = (
  (60, 'very slow'),
  (80, 'slow'),
  (112, 'moderate'),
  (152, 'fast'),
  (1000, 'very fast'),
)
_NUMBERS = {2: 'two', 3: 'three', 4: 'four'}

# What each caption states, by name, in the order of `write_captions`: of two
# clips that agree on these facts, each could have the other's caption.
STATED_FACTS: Mapping[str, tuple[str, ...]] = {
  'full': (
    'tune_type',
    'composer',
    'texture',
    'players',
    'key',
    'mode',
    'meter',
    'dynamics',
    'tempo_word',
  ),
  'sound': ('texture', 'players', 'dynamics', 'tempo_word'),
  'tune': (
    'tune_type',
    'composer',
    'families',
    'key',
    'mode',
    'meter',
    'tempo_word',
  ),
  'tags': (
    'instruments',
    'families',
    'meter',
    'tempo_bpm',
    'dynamics',
    'tune_type',
    'key',
    'mode',
  ),
}


def tempo_word(bpm: int) -> str:
  """'slow', 'moderate', …: a fixed reading of the beats a minute."""
  return next(word for bound, word in TEMPO_WORDS if bpm < bound)


def write_captions(
  facts: Mapping[str, Any], *, draw: random.Random
) -> tuple[str, ...]:
  """Four captions: a full one, one of the sound, one of the tune, and tags.

  Args:
    facts: As `rendering.render_tune` makes them.
    draw: Chooses the wording.
  """
  makers = (_full, _sound, _tune, _tags)
  return tuple(_tidy(make(facts, draw)) for make in makers)


def _full(facts: Mapping[str, Any], draw: random.Random) -> str:
  what, who = _what(facts, draw), _who(facts, draw)
  key, meter = _key(facts), f'in {facts["meter"]} time'
  loud = draw.choice(ADVERBS[facts['dynamics']])
  tempo = _tempo(facts, draw)
  return draw.choice(
    (
      f'{with_article(what)} {key} for {who}, played {loud} {tempo}, {meter}.',
      f'{who}: {with_article(what)} {key}, {meter}, played {loud} {tempo}.',
      f'{with_article(what)} {meter} {key}. It is played {loud} by {who}, {tempo}.',
    )
  )


def _sound(facts: Mapping[str, Any], draw: random.Random) -> str:
  who, pace = _who(facts, draw), f'at a {facts["tempo_word"]} tempo'
  loud = draw.choice(ADVERBS[facts['dynamics']])
  return draw.choice(
    (
      f'{who}, playing {loud} {pace}.',
      f'The sound of {who}, {loud.removesuffix("ly")}, {pace}.',
      f'A {loud.removesuffix("ly")} piece for {who}, {pace}.',
    )
  )


def _tune(facts: Mapping[str, Any], draw: random.Random) -> str:
  what, meter = _what(facts, draw), facts['meter']
  family = ' and '.join(facts['families'])
  return draw.choice(
    (
      f'{with_article(what)} {_key(facts)} in {meter}, {_tempo(facts, draw)} ({family}).',
      f'{what} {_key(facts)} in {meter} time: {family}, {_tempo(facts, draw)}.',
      f'{family}: {with_article(what)} {_key(facts)}, {_tempo(facts, draw)}.',
    )
  )


def _tags(facts: Mapping[str, Any], draw: random.Random) -> str:
  tags = [*facts['instruments'], *facts['families']]
  tags += [facts['meter'], f'{facts["tempo_bpm"]} BPM', facts['tempo_word']]
  tags += [draw.choice(ADVERBS[facts['dynamics']])]
  if facts['tune_type']:
    tags.append(facts['tune_type'])
  if facts['key']:
    tags.append(f'{facts["key"]} {facts["mode"]}')
  draw.shuffle(tags)
  return ', '.join(tags)


def _what(facts: Mapping[str, Any], draw: random.Random) -> str:
  """'reel'; 'chorale in four parts by Johann Sebastian Bach'; 'tune'."""
  what = facts['tune_type'] or draw.choice(('tune', 'melody'))
  if facts['texture'] == arrangements.CHORALE:
    what += ' in four parts'
  if facts['composer']:
    what += f' by {draw.choice((facts["composer"], "J. S. Bach"))}'
  return what


def _who(facts: Mapping[str, Any], draw: random.Random) -> str:
  """The players, as the texture has them."""
  names = facts['players']
  texture = facts['texture']
  if texture == arrangements.SOLO:
    return draw.choice((f'solo {names[0]}', f'{names[0]} alone'))
  if texture == arrangements.OCTAVES:
    return draw.choice(
      (
        f'{names[0]} doubled an octave lower by {names[1]}',
        f'{names[0]} and {names[1]} in octaves',
      )
    )
  if texture == arrangements.DRONE:
    return draw.choice(
      (
        f'{names[0]} above {with_article(names[1])} drone',
        f'{names[0]} over a drone held by {with_article(names[1])}',
      )
    )
  if len(set(names)) == 1:
    return names[0]
  counts = collections.Counter(names).items()
  return _and(
    [n if count == 1 else f'{_NUMBERS[count]} {n}s' for n, count in counts]
  )


def _key(facts: Mapping[str, Any]) -> str:
  return f'in {facts["key"]} {facts["mode"]}' if facts['key'] else ''


def _tempo(facts: Mapping[str, Any], draw: random.Random) -> str:
  bpm, word = facts['tempo_bpm'], facts['tempo_word']
  return draw.choice(
    (
      f'at {bpm} BPM',
      f'at a {word} tempo',
      f'at a {word} {bpm} BPM',
      f'at {bpm} {facts["tempo_beat"]}s a minute',
    )
  )


def _and(words: Sequence[str]) -> str:
  *first, last = words
  return f'{", ".join(first)} and {last}' if first else last


def with_article(noun: str) -> str:
  """'an oboe', 'a reel'."""
  return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'


def _tidy(text: str) -> str:
  """One space where a missing fact left two, and a capital to begin."""
  text = ' '.join(text.split()).replace(' ,', ',').replace(' .', '.')
  return text[0].upper() + text[1:]
