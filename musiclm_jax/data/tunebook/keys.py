# SPDX-License-Identifier: Apache-2.0
"""Keys: from the words of a key header to a tonic, a mode and a signature.

A key is what its source states, never an estimate. Pitch classes count from
C = 0; `fifths` is the signature as a signed number of sharps.
"""

from __future__ import annotations

import dataclasses
import re

# Mode name → how many fifths its signature lies above the major key's of the
# same tonic.
_MODES = {
  'major': 0,
  'ionian': 0,
  'mixolydian': -1,
  'dorian': -2,
  'minor': -3,
  'aeolian': -3,
  'phrygian': -4,
  'locrian': -5,
  'lydian': 1,
}
_LETTERS_BY_FIFTHS = 'FCGDAEB'
_PITCH_CLASSES = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)
_HEADER = re.compile(r'([A-G])([#b]?)\s*([A-Za-z]*)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
  """A tonic and a mode.

  Attributes:
    tonic: Letter and accidental: 'F#', 'Bb'.
    mode: 'major', 'minor', 'mixolydian', …
  """

  tonic: str
  mode: str

  @property
  def fifths(self) -> int:
    """The signature: 2 is two sharps, -3 is three flats."""
    return _fifths_of_tonic(self.tonic) + _MODES[self.mode]

  @property
  def pitch_class(self) -> int:
    shift = self.tonic.count('#') - self.tonic.count('b')
    return (_PITCH_CLASSES[self.tonic[0]] + shift) % 12

  def alteration(self, letter: str) -> int:
    """What the signature adds to `letter`, in semitones."""
    place = _LETTERS_BY_FIFTHS.index(letter)
    # Seven fifths come back to the same letter one semitone higher.
    return (self.fifths - place + 6) // 7

  def transposed(self, semitones: int) -> Key:
    """The key that sounds; of two spellings, the one with fewer accidentals."""
    target = (self.pitch_class + semitones) % 12
    spellings = [
      Key(tonic=letter + accidental, mode=self.mode)
      for letter in _PITCH_CLASSES
      for accidental in ('', '#', 'b')
    ]
    # A tie (six sharps, six flats) goes to the flats.
    return min(
      (key for key in spellings if key.pitch_class == target),
      key=lambda key: (abs(key.fifths), key.fifths),
    )


def parse_key(header: str) -> Key:
  """Reads an ABC key field: 'G', 'Em', 'A Mixolydian', 'EDor'.

  Raises:
    ValueError: If any of it is not understood, a wrong key being worse than
      none ('Hp', 'Dmix=c', 'Bn').
  """
  found = _HEADER.fullmatch(header.strip())
  if not found:
    raise ValueError(f'{header!r} is not a tonic and a mode.')
  letter, accidental, word = found.groups()
  return Key(tonic=letter + accidental, mode=_mode(word, header=header))


def key_of_signature(*, fifths: int, mode: str) -> Key:
  """The key with this signature and mode, as MusicXML states them."""
  place = fifths - _MODES[mode] + 1
  accidentals = place // 7
  sign = '#' if accidentals > 0 else 'b'
  letter = _LETTERS_BY_FIFTHS[place % 7]
  return Key(tonic=letter + sign * abs(accidentals), mode=mode)


def _fifths_of_tonic(tonic: str) -> int:
  shift = tonic.count('#') - tonic.count('b')
  return _LETTERS_BY_FIFTHS.index(tonic[0]) - 1 + 7 * shift


def _mode(word: str, *, header: str) -> str:
  if word in ('', 'M'):
    return 'major'
  if word == 'm':
    return 'minor'
  # Only the first three letters count, in either case (ABC 2.1, section 4.6.4).
  for mode in _MODES:
    if len(word) >= 3 and mode.startswith(word.lower()):
      return mode
  raise ValueError(f'{header!r} has no mode that is known: {word!r}.')
