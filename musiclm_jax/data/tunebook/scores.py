# SPDX-License-Identifier: Apache-2.0
"""A tune of the corpus: its notes and what its source says of it.

Everything here is read from the file: the meter and the key from their header
fields, the type from R:, the tempo from Q:. Where the source is silent a field
is None, and no caption will speak of it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence
from fractions import Fraction

from musiclm_jax.data.tunebook import abc_notation, keys, meters, musicxml

Note = musicxml.Note

_TYPES = {'slipjig': 'slip jig', 'fling': 'highland fling'}
_TEMPO = re.compile(r'(?:(\d+)/(\d+)\s*=\s*)?(\d+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """One tune as written, its repeats played out once.

  Attributes:
    parts: Notes of each part, the melody first.
    length: Of the whole, rests and the upbeat included, in quarter notes.
    upbeat: Length of what precedes the first whole bar, in quarter notes.
    outlines: The melody as written, once at each half (or third) of its first
      eight bars and once at each quarter (or sixth) of its first four, above
      the first pitch and folded into one octave. Copies in another key, octave
      or unit, or without the repeats, share one of them.
    meter: As written.
    key: As stated by the source, or None.
    tune_type: 'reel', 'double jig', 'chorale', or None.
    composer: Bach, or None: the C: fields of the tunebooks name places,
      collectors and players as well.
    tempo_bpm: Beats (of the meter) a minute that the source asks for, or None.
  """

  parts: tuple[tuple[Note, ...], ...]
  length: Fraction
  upbeat: Fraction
  outlines: tuple[tuple[int | None, ...], ...]
  meter: meters.Meter
  key: keys.Key | None
  tune_type: str | None
  composer: str | None = None
  tempo_bpm: float | None = None


def read_abc(text: str) -> Score:
  """Reads one ABC tune; a `ValueError` says why it cannot be trusted."""
  fields, body = abc_notation.split_header(text)
  meter = meters.parse_meter(_one(fields, 'M'))
  key = keys.parse_key(_one(fields, 'K'))
  unit = abc_notation.unit_length(fields, meter=meter)
  bars = abc_notation.parse_bars(body, key=key, meter=meter, unit=unit)
  _require_meter([bar.length for bar in bars], meter=meter)
  played = abc_notation.play_repeats(bars)
  notes = abc_notation.notes_of(played)
  upbeat = bars[0].length % meter.bar_length
  kind = ' '.join(fields.get('R', [''])[-1].lower().split())
  return Score(
    parts=(tuple(notes),),
    length=sum((bar.length for bar in played), Fraction(0)),
    upbeat=upbeat,
    outlines=_outlines(abc_notation.notes_of(bars), upbeat=upbeat, meter=meter),
    meter=meter,
    key=None if abc_notation.changes_key(body) else key,
    tune_type=_TYPES.get(kind, kind) or None,
    tempo_bpm=_tempo(fields.get('Q', [''])[-1], meter=meter),
  )


def read_chorale(path: pathlib.Path) -> Score:
  """Reads the four voices of a chorale."""
  chorale = musicxml.read_chorale(musicxml.read_text(path))
  meter, key = chorale.meter, chorale.key
  _require_meter(chorale.measures, meter=meter)
  _require_sound(chorale.voices, meter=meter)
  # Some files carry the mode that a notation program fills in by default: a
  # key counts only if the last bass note is its tonic.
  if key and chorale.voices[-1][-1][2] % 12 != key.pitch_class:
    key = None
  upbeat = chorale.measures[0] % meter.bar_length
  return Score(
    parts=chorale.voices,
    length=sum(chorale.measures, Fraction(0)),
    upbeat=upbeat,
    outlines=_outlines(chorale.voices[0], upbeat=upbeat, meter=meter),
    meter=meter,
    key=key,
    tune_type='chorale',
    composer='Johann Sebastian Bach',
  )


@functools.lru_cache(maxsize=64)
def split_tunes(path: pathlib.Path) -> tuple[str, ...]:
  """The texts of the tunes of one ABC file, in order."""
  # Titles hold a few letters of Latin-1; every byte decodes.
  text = path.read_text(encoding='latin-1')
  # A few went through a mail program that broke lines as '=' and wrote ' ' as
  # '=20' and '=' as '=3D'.
  text = text.replace('=\n', '').replace('=20\n', '\n').replace('=3D', '=')
  return tuple(re.split(r'(?m)^(?=X:)', text)[1:])


def _one(fields: dict[str, list[str]], letter: str) -> str:
  values = set(fields.get(letter, []))
  if len(values) != 1:
    raise ValueError(f'Its header has {len(values)} values of {letter}:')
  return values.pop()


def _require_meter(lengths: Sequence[Fraction], *, meter: meters.Meter) -> None:
  """The stated meter must be the one that most bars hold."""
  counts = collections.Counter(length for length in lengths if length)
  if not counts:
    raise ValueError('It has no notes.')
  common = counts.most_common(1)[0][0]
  if common != meter.bar_length:
    raise ValueError(
      f'Most of its bars last {common} quarter notes, not the'
      f' {meter.bar_length} of {meter}.'
    )


def _require_sound(
  voices: Sequence[Sequence[Note]], *, meter: meters.Meter
) -> None:
  """Interludes of instruments that are left out would be long silences."""
  sounded = Fraction(0)
  for onset, length, _ in sorted(note for voice in voices for note in voice):
    if onset - sounded > meter.bar_length:
      raise ValueError(
        f'Its four voices rest for {onset - sounded} quarter notes.'
      )
    sounded = max(sounded, onset + length)


def _outlines(
  melody: Sequence[Note], *, upbeat: Fraction, meter: meters.Meter
) -> tuple[tuple[int | None, ...], ...]:
  # Floats, as fractions are slow; half a thousandth is below any note.
  bar, start = float(meter.bar_length), float(upbeat) + 0.0005
  opening = [
    (float(onset), float(onset + length), pitch)
    for onset, length, pitch in melody
    if onset < upbeat + 8 * meter.bar_length
  ]

  def outline(num_bars: int, steps: int) -> tuple[int | None, ...]:
    heard = []
    for step in range(num_bars * steps):
      now = start + step * bar / steps
      sounding = [pitch for on, end, pitch in opening if on <= now < end]
      heard.append(max(sounding, default=None))
    first = next((pitch for pitch in heard if pitch is not None), 0)
    return tuple(p if p is None else (p - first) % 12 for p in heard)

  steps = 3 if meter.beats in (3, 9) else 2
  return outline(8, steps), outline(4, 2 * steps)


def _tempo(text: str, *, meter: meters.Meter) -> float | None:
  """'1/2=104' or '104' as beats of the meter a minute."""
  found = _TEMPO.match(text)
  if not found:
    return None
  count = Fraction(int(found[3]))
  if found[1]:
    count *= 4 * Fraction(int(found[1]), int(found[2])) / meter.beat_length
  return float(count)
