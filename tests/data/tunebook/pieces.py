# SPDX-License-Identifier: Apache-2.0
"""Small tunes made up for the tests, and a corpus folder that holds them."""

from __future__ import annotations

import pathlib
import zipfile

# Bars of 6/8 in quarter notes: 3. Two parts of four bars, both repeated.
JIG = """X:1
T:The Made-up Jig
R:jig
M:6/8
L:1/8
Q:3/8=110
K:Edor
EFG B2c|d3 BAG|FGA dAF|GFE E3:|
efg fed|Bcd e3|dcB AFA|BGE E3:|
"""

# The same melody a tone lower, as another transcriber might have it.
JIG_AGAIN = """X:1
T:Maker's Fancy, The
M:6/8
L:1/8
K:Ddor
DEF A2B|c3 AGF|EFG cGE|FED D3|
def edc|ABc d3|cBA GEG|AFD D3|]
"""

REEL = """X:{number}
T:{title}
R:reel
M:C|
L:1/8
K:G
D2|G2BG dGBG|{bar}|G2BG dGBG|c2A2 G2:|
"""

TWO_VOICES = """X:7
T:Two Voices
M:4/4
L:1/4
K:C
V:1
CDEF|
V:2
C,4|
"""


def chorale(*, mode: str = 'minor', rights: str = '') -> str:
  """Two bars of four voices in A minor, with a note tied over the bar."""
  lines = {
    'Soprano': (('A', 4), ('B', 4), ('C', 5), ('A', 4)),
    'Alto': (('E', 4), ('E', 4), ('E', 4), ('E', 4)),
    'Tenor': (('C', 4), ('G', 3), ('A', 3), ('C', 4)),
    'Bass': (('A', 2), ('E', 3), ('A', 2), ('A', 2)),
  }
  names = ''.join(
    f'<score-part id="P{n}"><part-name>{name}</part-name></score-part>'
    for n, name in enumerate(lines)
  )
  parts = ''.join(
    f'<part id="P{n}">{_measures(notes, mode=mode)}</part>'
    for n, notes in enumerate(lines.values())
  )
  return (
    f'<score-partwise>{rights}<part-list>{names}</part-list>{parts}'
    '</score-partwise>'
  )


def _measures(notes: tuple[tuple[str, int], ...], *, mode: str) -> str:
  attributes = (
    '<attributes><divisions>2</divisions>'
    f'<key><fifths>0</fifths><mode>{mode}</mode></key>'
    '<time><beats>4</beats><beat-type>4</beat-type></time></attributes>'
  )
  first, second, third, fourth = notes
  return (
    f'<measure>{attributes}{_note(first)}{_note(second)}</measure>'
    f'<measure>{_note(third)}{_note(fourth)}</measure>'
    f'<measure>{_note(fourth, "start")}{_note(fourth, "stop")}</measure>'
  )


def _note(pitch: tuple[str, int], tie: str = '') -> str:
  step, octave = pitch
  tied = f'<tie type="{tie}"/>' if tie else ''
  return (
    f'<note><pitch><step>{step}</step><octave>{octave}</octave></pitch>'
    f'<duration>4</duration>{tied}</note>'
  )


def write_folder(folder: pathlib.Path) -> pathlib.Path:
  """A corpus in the layout of music21's, with one of everything."""
  files = {
    'ryansMammoth/MadeUpJig.abc': JIG,
    'oneills1850/0001-0050.abc': ''.join(
      [
        'A preamble\n\n',
        REEL.format(number=1, title='The Long Reel', bar='c2AF DFAc'),
        REEL.format(number=2, title='Odd Bar', bar='c2AF DF&'),
        REEL.format(number=3, title='The Book of Rights', bar='c4 (c)c3'),
      ]
    ),
    'airdsAirs/book1.abc': JIG_AGAIN
    + TWO_VOICES
    + REEL.format(number=3, title='Long Reel. The', bar='c2Ac d2c2'),
    'airdsAirs/book2.abc': '% Copyright by nobody\n' + JIG,
    'bach/bwv998.xml': chorale(),
    'bach/bwv999.xml': chorale(rights='<credit>© 1999</credit>'),
  }
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  with zipfile.ZipFile(folder / 'bach' / 'bwv997.mxl', 'w') as archive:
    archive.writestr(
      'META-INF/container.xml',
      '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles>'
      '</container>',
    )
    archive.writestr('a.xml', chorale())
  return folder
