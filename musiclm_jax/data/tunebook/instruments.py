# SPDX-License-Identifier: Apache-2.0
"""The instruments: General MIDI programs by family, with the range they play.

Ranges are MIDI numbers of the notes that a player is given; a melody is moved
until it fits. Within its range every instrument sounds and is in tune in the
sound font that is used (a test plays every note). Left out for that reason are
the accordions (up to 68 cents off) and the alto saxophone (notes are missing);
and, as their peaks would exceed full scale when they are as loud as the others,
the xylophone and the glockenspiel.
Drums are not used.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instrument:
  """One program of General MIDI.

  Attributes:
    name: The words that a caption uses.
    family: 'strings', 'woodwind', …
    program: General MIDI program, from 0.
    lowest: MIDI number of the lowest note, included.
    highest: Of the highest, included.
    sustains: Whether a held note keeps sounding (so that it can be a drone).
  """

  name: str
  family: str
  program: int
  lowest: int
  highest: int
  sustains: bool = False


def _family(
  family: str, *rows: tuple[str, int, int, int], sustains: bool
) -> tuple[Instrument, ...]:
  return tuple(
    Instrument(
      name=name,
      family=family,
      program=program,
      lowest=lowest,
      highest=highest,
      sustains=sustains,
    )
    for name, program, lowest, highest in rows
  )


FAMILIES: dict[str, tuple[Instrument, ...]] = {
  'keyboard': _family(
    'keyboard',
    ('grand piano', 0, 33, 96),
    ('electric piano', 4, 36, 96),
    ('harpsichord', 6, 36, 89),
    ('clavinet', 7, 40, 90),
    ('celesta', 8, 60, 100),
    sustains=False,
  ),
  'plucked strings': _family(
    'plucked strings',
    ('nylon-string guitar', 24, 40, 83),
    ('steel-string guitar', 25, 40, 83),
    ('jazz guitar', 26, 40, 83),
    ('banjo', 105, 48, 86),
    ('harp', 46, 36, 96),
    ('pizzicato strings', 45, 40, 88),
    sustains=False,
  ),
  'bowed strings': _family(
    'bowed strings',
    ('violin', 40, 55, 96),
    ('viola', 41, 48, 86),
    ('cello', 42, 36, 76),
    ('string ensemble', 48, 36, 96),
    sustains=True,
  ),
  'woodwind': _family(
    'woodwind',
    ('piccolo', 72, 74, 102),
    ('flute', 73, 60, 96),
    ('recorder', 74, 60, 93),
    ('pan flute', 75, 60, 90),
    ('oboe', 68, 58, 91),
    ('English horn', 69, 52, 81),
    ('clarinet', 71, 50, 91),
    ('bassoon', 70, 34, 74),
    ('soprano saxophone', 64, 56, 88),
    ('tenor saxophone', 66, 44, 75),
    ('ocarina', 79, 60, 84),
    sustains=True,
  ),
  'brass': _family(
    'brass',
    ('trumpet', 56, 54, 86),
    ('French horn', 60, 41, 79),
    ('trombone', 57, 40, 74),
    ('tuba', 58, 28, 60),
    sustains=True,
  ),
  'reeds and organ': _family(
    'reeds and organ',
    ('harmonica', 22, 74, 96),
    ('bagpipe', 109, 57, 84),
    ('reed organ', 20, 36, 96),
    ('church organ', 19, 36, 96),
    ('drawbar organ', 16, 48, 96),
    sustains=True,
  ),
  'mallets': _family(
    'mallets',
    ('vibraphone', 11, 53, 89),
    ('marimba', 12, 45, 93),
    ('music box', 10, 60, 96),
    ('kalimba', 108, 55, 84),
    ('hammered dulcimer', 15, 48, 90),
    sustains=False,
  ),
}

INSTRUMENTS: dict[str, Instrument] = {
  instrument.name: instrument
  for family in FAMILIES.values()
  for instrument in family
}

DRONES: tuple[Instrument, ...] = tuple(
  INSTRUMENTS[name]
  for name in (
    'cello',
    'viola',
    'church organ',
    'reed organ',
    'string ensemble',
  )
)

# A melody doubled an octave lower: who leads, who follows.
DOUBLES: tuple[tuple[Instrument, Instrument], ...] = tuple(
  (INSTRUMENTS[upper], INSTRUMENTS[lower])
  for upper, lower in (
    ('flute', 'clarinet'),
    ('piccolo', 'recorder'),
    ('violin', 'viola'),
    ('violin', 'cello'),
    ('oboe', 'bassoon'),
    ('trumpet', 'trombone'),
    ('flute', 'harp'),
    ('celesta', 'marimba'),
    ('clarinet', 'bassoon'),
  )
)

# Who plays the soprano, alto, tenor and bass of a chorale.
CHOIRS: tuple[tuple[Instrument, ...], ...] = tuple(
  tuple(INSTRUMENTS[name] for name in choir)
  for choir in (
    ('grand piano',) * 4,
    ('harpsichord',) * 4,
    ('nylon-string guitar',) * 4,
    ('marimba',) * 4,
    ('drawbar organ',) * 4,
    ('reed organ',) * 4,
    ('church organ',) * 4,
    ('string ensemble',) * 4,
    ('violin', 'violin', 'viola', 'cello'),
    ('oboe', 'clarinet', 'French horn', 'bassoon'),
    ('flute', 'clarinet', 'bassoon', 'bassoon'),
    ('trumpet', 'trumpet', 'trombone', 'tuba'),
    ('oboe', 'church organ', 'church organ', 'church organ'),
    ('violin', 'harpsichord', 'harpsichord', 'harpsichord'),
  )
)
