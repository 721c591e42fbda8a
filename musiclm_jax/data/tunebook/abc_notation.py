# SPDX-License-Identifier: Apache-2.0
"""ABC notation to notes, with the repeats played out.

A small strict reader of what the tunebooks use of the ABC standard 2.1: one
voice, chords, broken rhythm, tuplets, ties, repeats and endings. Grace notes,
ornaments and text are not played. What it does not know is a `ValueError`:
a tune that is read wrongly would carry false facts.

music21 reads ABC too, but it repeats from the beginning of a tune where only a
repeat's end is written, loses notes at signs that the tunebooks use, and takes
some sixty times as long.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from musiclm_jax.data.tunebook import keys, meters

_FIELD = re.compile(r'([A-Za-z]):(?![|:])\s*(.*)')
_TOKEN = re.compile(
  r"""
    (?P<tuplet>\((?P<p>[2-9])(?::(?P<q>\d*))?(?::(?P<r>\d*))?)
  | (?P<skip>"[^"]*"|\{[^}]*\}|![A-Za-z0-9.+<>()]+!|[\s`()\\.~!*h-wH-W]|y\d*)
  | \[(?P<field>[A-Za-z]):(?P<value>[^\]]*)\]
  | (?P<bar>(?:\[\||[|:])[|:]*\]?\s*)(?:\[?(?P<ending>\d[\d,-]*))?
  | \[(?P<lone_ending>\d[\d,-]*)
  | (?P<chord>\[(?P<inside>[^\]|:]*)\]|[_^=]*[A-Ga-g][,']*)(?P<length>\d*(?:/+\d*)*)
  | (?P<rest>[zx])(?P<rest_length>\d*(?:/+\d*)*)
  | (?P<broken><+|>+)
  | (?P<tie>-)
  """,
  re.VERBOSE,
)
_NOTE = re.compile(r"([_^=]*)([A-Ga-g])([,']*)(\d*(?:/+\d*)*)")
_SEMITONES = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
  """A note, a chord, or a rest (no pitches); `length` in quarter notes."""

  pitches: tuple[int, ...]
  length: Fraction
  tied: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
  """What stands between two bar lines, and the line that closes it.

  Attributes:
    events: In order.
    line: The closing bar line without spaces: '|', ':|', '::'.
    endings: The passes that play it; empty if all do.
  """

  events: tuple[Event, ...]
  line: str
  endings: frozenset[int] = frozenset()

  @property
  def length(self) -> Fraction:
    return sum((event.length for event in self.events), Fraction(0))


def split_header(text: str) -> tuple[dict[str, list[str]], str]:
  """Header fields (all values of each letter) and the body below the K: line."""
  fields: dict[str, list[str]] = collections.defaultdict(list)
  lines = text.splitlines()
  for index, line in enumerate(lines):
    found = _FIELD.match(line.strip())
    if found and not line.startswith('%'):
      value = found[2].split('%')[0].strip()
      fields[found[1]].append(value)
      if found[1] == 'K':
        return dict(fields), '\n'.join(lines[index + 1 :])
  raise ValueError('There is no K: line, which ends the header of a tune.')


def parse_bars(
  body: str, *, key: keys.Key, meter: meters.Meter, unit: Fraction
) -> list[Bar]:
  """Reads the body of a tune into bars, as written.

  Args:
    body: What follows the K: line.
    key: Its signature alters the notes.
    meter: For the time of tuplets such as (5.
    unit: Of note lengths (the L: field), in quarter notes.
  """
  return _Reader(key=key, meter=meter, unit=unit).read(body)


def changes_key(body: str) -> bool:
  """Whether a K: field in the body sets another key than the header's."""
  return re.search(r'(?m)^K:|\[K:', body) is not None


def unit_length(
  fields: dict[str, list[str]], *, meter: meters.Meter
) -> Fraction:
  """The L: field in quarter notes, or the standard's default (section 3.1.7)."""
  if 'L' in fields:
    return 4 * Fraction(fields['L'][-1])
  return Fraction(1, 4) if meter.bar_length < 3 else Fraction(1, 2)


class _Reader:
  """The state of reading one body, left to right."""

  def __init__(self, *, key: keys.Key, meter: meters.Meter, unit: Fraction):
    self._key = key
    self._meter = meter
    self._unit = unit
    self._bars: list[Bar] = []
    self._endings: frozenset[int] = frozenset()
    self._new_bar()
    self._stretch = Fraction(1)  # What > or < leaves for the next note.
    self._tuplet = (Fraction(1), 0)  # Factor, and notes that still take it.

  def _new_bar(self) -> None:
    self._events: list[Event] = []
    self._accidentals: dict[str, int] = {}

  def read(self, body: str) -> list[Bar]:
    for found in _tokens(body):
      if found['tuplet']:
        self._open_tuplet(found)
      elif found['field']:
        self._change(found['field'], found['value'].strip())
      elif found['bar']:
        self._close_bar(''.join(found['bar'].split()), found['ending'])
      elif found['lone_ending']:
        self._endings = _passes(found['lone_ending'])
      elif found['chord']:
        pitches = self._pitches(found['inside'] or found['chord'])
        own = _NOTE.match(found['inside'] or '')
        inner = _length(own[4]) if own else Fraction(1)
        self._add(pitches, inner * _length(found['length']))
      elif found['rest']:
        self._add((), _length(found['rest_length']))
      elif found['broken']:
        self._break_rhythm(found['broken'])
      elif found['tie'] and self._events:
        self._events[-1] = dataclasses.replace(self._events[-1], tied=True)
    self._close_bar('|', None)
    return self._bars

  def _change(self, field: str, value: str) -> None:
    if field == 'L':
      self._unit = 4 * Fraction(value)
    elif field == 'M' and meters.parse_meter(value) != self._meter:
      raise ValueError(f'Its meter changes to {value!r}.')
    elif field == 'K':
      self._key = keys.parse_key(value)
    elif field == 'V':
      raise ValueError('It has several voices.')

  def _open_tuplet(self, found: re.Match) -> None:
    notes = int(found['p'])
    compound = 3 if self._meter.is_compound else 2
    time = int(found['q'] or _TUPLET_TIME.get(notes, compound))
    self._tuplet = (Fraction(time, notes), int(found['r'] or notes))

  def _close_bar(self, line: str, ending: str | None) -> None:
    if self._events or not self._bars:
      self._bars.append(
        Bar(events=tuple(self._events), line=line, endings=self._endings)
      )
    else:  # '|' and ':' that spaces or a line's end kept apart are one line.
      last = self._bars[-1]
      self._bars[-1] = dataclasses.replace(last, line=last.line + line)
    if _closes_ending(line):
      self._endings = frozenset()
    if ending:
      self._endings = _passes(ending)
    self._new_bar()

  def _pitches(self, notes: str) -> tuple[int, ...]:
    pitches = []
    for accidental, letter, octaves, _ in _NOTE.findall(notes):
      name = letter.upper()
      if accidental:
        # Through the bar, in every octave (ABC 2.1, section 11.3).
        self._accidentals[name] = accidental.count('^') - accidental.count('_')
      alteration = self._accidentals.get(name, self._key.alteration(name))
      octave = 5 if letter.islower() else 4
      octave += octaves.count("'") - octaves.count(',')
      pitches.append(12 * (octave + 1) + _SEMITONES[name] + alteration)
    return tuple(pitches)

  def _add(self, pitches: tuple[int, ...], length: Fraction) -> None:
    factor, remaining = self._tuplet
    if remaining:
      length *= factor
      self._tuplet = (factor, remaining - 1)
    length *= self._unit * self._stretch
    self._stretch = Fraction(1)
    self._events.append(Event(pitches=pitches, length=length))

  def _break_rhythm(self, marks: str) -> None:
    if not self._events:
      raise ValueError(f'{marks!r} follows no note.')
    short = Fraction(1, 2 ** len(marks))
    before, after = (
      (2 - short, short) if marks[0] == '>' else (short, 2 - short)
    )
    last = self._events[-1]
    self._events[-1] = dataclasses.replace(last, length=last.length * before)
    self._stretch = after


def play_repeats(bars: Sequence[Bar]) -> list[Bar]:
  """The bars in the order in which they sound.

  A repeat goes back to where it was opened or, if it was not, to the nearest
  earlier double bar, end of a repeat, or the beginning.
  """
  played: list[Bar] = []
  section: list[Bar] = []
  opened = repeated = False
  for index, bar in enumerate(bars):
    section.append(bar)
    following = bars[index + 1] if index + 1 < len(bars) else None
    ends, starts = ':|' in bar.line or '::' in bar.line, _starts(bar.line)
    repeated = repeated or ends
    later_ending = bool(following and following.endings - {1})
    double = _is_double(bar.line) and not opened
    past_endings = bool(bar.endings - {1}) and _closes_ending(bar.line)
    closes = ends or starts or double or past_endings or following is None
    if closes and not later_ending:
      played.extend(_unfold(section, repeated=repeated))
      section, repeated, opened = [], False, False
    opened = opened or starts
  return played


def notes_of(bars: Sequence[Bar]) -> list[tuple[Fraction, Fraction, int]]:
  """(onset, length, pitch) in quarter notes, ties joined, in order of onset."""
  notes: list[list] = []
  open_ties: dict[int, list] = {}
  onset = Fraction(0)
  for event in (event for bar in bars for event in bar.events):
    still_open = {}
    for pitch in event.pitches:
      note = open_ties.get(pitch)
      if note is None:
        note = [onset, Fraction(0), pitch]
        notes.append(note)
      note[1] += event.length
      if event.tied:
        still_open[pitch] = note
    open_ties = still_open
    onset += event.length
  return [tuple(note) for note in notes]


def _tokens(body: str) -> Iterator[re.Match]:
  lines = []
  for line in body.splitlines():
    line = line.split('%')[0].rstrip()
    field = _FIELD.match(line)
    if field and field[1] in 'KLMV':
      lines.append(f'[{field[1]}:{field[2]}]')
    elif not field:
      lines.append(line)
  text = '\n'.join(lines)
  position = 0
  while position < len(text):
    found = _TOKEN.match(text, position)
    if not found or found.end() == position:
      raise ValueError(f'{text[position : position + 10]!r} is not understood.')
    position = found.end()
    yield found


def _length(text: str) -> Fraction:
  """'3/2' is 3/2, '/' is 1/2, '//' is 1/4."""
  if not text:
    return Fraction(1)
  numerator, *denominators = text.split('/')
  value = Fraction(int(numerator or 1))
  for denominator in denominators:
    value /= int(denominator or 2)
  return value


def _passes(text: str) -> frozenset[int]:
  """'1', '1,2' and '1-3' as a set of passes."""
  passes: set[int] = set()
  for piece in text.strip(',-').split(','):
    first, _, last = piece.partition('-')
    passes.update(range(int(first), int(last or first) + 1))
  return frozenset(passes)


def _is_double(line: str) -> bool:
  return '||' in line or ']' in line or '[' in line


def _starts(line: str) -> bool:
  return '|:' in line or '::' in line


def _closes_ending(line: str) -> bool:
  return ':' in line or _is_double(line)


def _unfold(section: Sequence[Bar], *, repeated: bool) -> Iterator[Bar]:
  passes = max((max(bar.endings) for bar in section if bar.endings), default=1)
  passes = max(passes, 2 if repeated else 1)
  for number in range(1, passes + 1):
    for bar in section:
      if not bar.endings or number in bar.endings:
        yield bar
