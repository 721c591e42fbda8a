# SPDX-License-Identifier: Apache-2.0
"""The four voices of a chorale out of a MusicXML file.

Only what the chorales of the corpus use: one meter, no written repeats. Parts
that double the voices (trumpets, continuo) are left out, so that a chorale is
always four parts: soprano, alto, tenor, bass.
"""

from __future__ import annotations

import dataclasses
import pathlib
import zipfile
from fractions import Fraction
from xml.etree import ElementTree

from musiclm_jax.data.tunebook import keys, meters

VOICES = ('Soprano', 'Alto', 'Tenor', 'Bass')

# (onset, length, pitch): quarter notes, quarter notes, MIDI number.
Note = tuple[Fraction, Fraction, int]

_SEMITONES = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chorale:
  """What one file says.

  Attributes:
    voices: Notes of each of `VOICES`.
    measures: Their lengths in quarter notes.
    meter: The one meter of the piece.
    key: Of signature and mode; None if they are missing or change.
  """

  voices: tuple[tuple[Note, ...], ...]
  measures: tuple[Fraction, ...]
  meter: meters.Meter
  key: keys.Key | None


def read_text(path: pathlib.Path) -> str:
  """The XML of a plain (.xml) or compressed (.mxl) file."""
  if path.suffix != '.mxl':
    return path.read_text(encoding='utf-8')
  with zipfile.ZipFile(path) as archive:
    container = ElementTree.fromstring(archive.read('META-INF/container.xml'))
    # The format's own index; its elements may or may not have a namespace.
    root = next(e for e in container.iter() if e.tag.endswith('rootfile'))
    return archive.read(root.get('full-path')).decode('utf-8')


def read_chorale(text: str) -> Chorale:
  """Reads the four voices; a `ValueError` says what is not as expected."""
  root = ElementTree.fromstring(text)
  if root.find('.//repeat') is not None:
    raise ValueError('It has written repeats, which are not read.')
  names = {
    part.get('id'): part.findtext('part-name', '')
    for part in root.iter('score-part')
  }
  voices, measures = [], []
  for voice in VOICES:
    parts = [
      part
      for part in root.findall('part')
      if names[part.get('id')].startswith(voice)
    ]
    if len(parts) != 1:
      raise ValueError(f'It has {len(parts)} parts named {voice}, not one.')
    notes, measures = _read_part(parts[0])
    voices.append(notes)
  return Chorale(
    voices=tuple(voices),
    measures=tuple(measures),
    meter=_meter(root),
    key=_key(root),
  )


def _meter(root: ElementTree.Element) -> meters.Meter:
  written = {
    f'{time.findtext("beats")}/{time.findtext("beat-type")}'
    for time in root.iter('time')
  }
  if len(written) != 1:
    raise ValueError(f'It has {len(written)} meters, not one.')
  return meters.parse_meter(written.pop())


def _key(root: ElementTree.Element) -> keys.Key | None:
  written = {
    (int(key.findtext('fifths', '0')), key.findtext('mode'))
    for key in root.iter('key')
  }
  if len(written) != 1:
    return None
  fifths, mode = written.pop()
  return mode and keys.key_of_signature(fifths=fifths, mode=mode)


def _read_part(
  part: ElementTree.Element,
) -> tuple[tuple[Note, ...], list[Fraction]]:
  """The notes of a part, and the lengths of its measures."""
  notes: list[list] = []
  lengths = []
  divisions = 1
  start = Fraction(0)
  for measure in part.findall('measure'):
    now = end = onset = start
    for element in measure:
      if element.tag == 'attributes':
        if element.find('transpose') is not None:
          raise ValueError('A voice is written for a transposing instrument.')
        divisions = int(element.findtext('divisions', str(divisions)))
      length = Fraction(int(element.findtext('duration', '0')), divisions)
      if element.tag == 'backup':
        now -= length
      elif element.tag == 'forward':
        now += length
      elif element.tag == 'note' and element.find('grace') is None:
        if element.find('chord') is None:
          onset, now = now, now + length
        if element.find('pitch') is not None:
          _add(notes, onset=onset, length=length, element=element)
      end = max(end, now)
    lengths.append(end - start)
    start = end
  return tuple(tuple(note) for note in sorted(notes)), lengths


def _add(
  notes: list[list],
  *,
  onset: Fraction,
  length: Fraction,
  element: ElementTree.Element,
) -> None:
  """Appends a note, or lengthens the one that it is tied to."""
  pitch = element.find('pitch')
  octave = int(pitch.findtext('octave'))
  alter = int(pitch.findtext('alter', '0'))
  number = 12 * (octave + 1) + _SEMITONES[pitch.findtext('step')] + alter
  ties = {tie.get('type') for tie in element.findall('tie')}
  if 'stop' in ties:
    for note in reversed(notes):
      if note[2] == number and note[0] + note[1] == onset:
        note[1] += length
        return
  notes.append([onset, length, number])
