# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import pytest

from musiclm_jax.data.tunebook import abc_notation, keys, meters

EIGHTH = Fraction(1, 2)


def bars(body: str, *, key: str = 'C', meter: str = '4/4') -> list:
  return abc_notation.parse_bars(
    body,
    key=keys.parse_key(key),
    meter=meters.parse_meter(meter),
    unit=EIGHTH,
  )


def pitches(body: str, *, key: str = 'C') -> list[int]:
  return [note[2] for note in abc_notation.notes_of(bars(body, key=key))]


def lengths(body: str, *, meter: str = '4/4') -> list[Fraction]:
  """In eighth notes."""
  notes = abc_notation.notes_of(bars(body, meter=meter))
  return [length / EIGHTH for _, length, _ in notes]


def played(body: str) -> str:
  """The letters in the order in which they sound."""
  names = {60: 'C', 62: 'D', 64: 'E', 65: 'F', 67: 'G', 69: 'A', 71: 'B'}
  notes = abc_notation.notes_of(abc_notation.play_repeats(bars(body)))
  return ''.join(names[note[2]] for note in notes)


def test_letters_commas_and_quotes_give_octaves():
  assert pitches("C,, C, C c c' A") == [36, 48, 60, 72, 84, 69]


def test_the_key_signature_and_accidentals_give_semitones():
  assert pitches('FcF', key='D') == [66, 73, 66]
  assert pitches('^C_D=F', key='D') == [61, 61, 65]


def test_an_accidental_lasts_to_the_end_of_its_bar():
  assert pitches('^CC|C') == [61, 61, 60]
  assert pitches('=FF|F', key='G') == [65, 65, 66]


def test_lengths_are_multiples_and_fractions_of_the_unit():
  assert lengths('C2 C/ C// C3/2 C/4 C') == [
    2,
    Fraction(1, 2),
    Fraction(1, 4),
    Fraction(3, 2),
    Fraction(1, 4),
    1,
  ]


def test_broken_rhythm_takes_from_one_note_what_it_gives_the_other():
  assert lengths('C>D E<F') == [
    Fraction(3, 2),
    Fraction(1, 2),
    Fraction(1, 2),
    Fraction(3, 2),
  ]
  assert lengths('C>>D') == [Fraction(7, 4), Fraction(1, 4)]
  assert sum(lengths('"4"C >{d} D C')) == 3


def test_tuplets_fit_in_the_time_they_should():
  assert lengths('(3CDE F') == [Fraction(2, 3)] * 3 + [1]
  assert sum(lengths('(2CD', meter='6/8')) == 3
  assert sum(lengths('(5CDEFG', meter='6/8')) == 3
  assert sum(lengths('(5CDEFG', meter='4/4')) == 2
  assert lengths('(3:2:2C2D F') == [Fraction(4, 3), Fraction(2, 3), 1]
  assert sum(lengths('((3CDE) F')) == 3


def test_a_tie_joins_and_a_slur_written_like_one_does_not():
  assert lengths('C-C D-E') == [2, 1, 1]
  assert lengths('C4-|C2') == [6]


def test_rests_and_chords_take_their_time():
  notes = abc_notation.notes_of(bars('C z2 [CEG]2 x D'))
  assert [(note[0] / EIGHTH, note[2]) for note in notes] == [
    (0, 60),
    (3, 60),
    (3, 64),
    (3, 67),
    (6, 62),
  ]


def test_grace_notes_ornaments_fingerings_and_text_are_not_played():
  assert pitches('{dc}C ~D "^SEGUE"E !trill!F uvTHG .A\\\n`B') == [
    *(60, 62, 64, 65, 67, 69, 71)
  ]
  assert pitches('C % D\nw:words of a song\n%%staffsep 50\nE') == [60, 64]


@pytest.mark.parametrize(
  ('body', 'order'),
  [
    ('C|D|E|', 'CDE'),
    ('C|D:|', 'CDCD'),
    ('|:C|D:|', 'CDCD'),
    ('C|D:|E|F:|', 'CDCDEFEF'),
    ('|:C::D:|', 'CCDD'),
    ('C|:D:|E', 'CDDE'),
    ('C||D:|', 'CDD'),
    ('|:C||D:|', 'CDCD'),
    ('|:C|1D:|2E||F', 'CDCEF'),
    ('|:C|1 D :|2 E |]', 'CDCE'),
    ('|:C|[1D:|[2E|]F:|', 'CDCEFF'),
    ('C|1D:|2E:|F|1G:|2A|]', 'CDCEFGFA'),
    ('C|D |\n|: E :|', 'CDEE'),
    ('C:|\n|:D:|', 'CCDD'),
  ],
)
def test_repeats_are_played_as_written(body: str, order: str):
  assert played(body) == order


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    ('C D & E', 'not understood'),
    ('C [M:6/8] D', 'meter changes'),
    ('V:1\nC', 'several voices'),
    ('>C', 'follows no note'),
  ],
)
def test_what_it_does_not_know_is_an_error(body: str, message: str):
  with pytest.raises(ValueError, match=message):
    bars(body)


def test_a_key_in_the_body_holds_from_there():
  assert pitches('F|\nK:D\nF|[K:C]F|') == [65, 66, 65]
  assert abc_notation.changes_key('F|\nK:D\nF|')
  assert not abc_notation.changes_key('F|D|')


def test_the_header_ends_with_the_key():
  fields, body = abc_notation.split_header(
    'X:1\nT:One\nT:Two\nM:C|\nK:G % one sharp\nABC|\nD:|\n'
  )
  assert fields['T'] == ['One', 'Two']
  assert fields['K'] == ['G']
  assert body == 'ABC|\nD:|'
  with pytest.raises(ValueError, match='no K: line'):
    abc_notation.split_header('X:1\nABC|')


def test_the_unit_is_stated_or_follows_from_the_meter():
  def unit(fields: dict[str, list[str]], meter: str) -> Fraction:
    return abc_notation.unit_length(fields, meter=meters.parse_meter(meter))

  assert unit({'L': ['1/16']}, '4/4') == Fraction(1, 4)
  assert unit({}, '2/4') == Fraction(1, 4)
  assert unit({}, '6/8') == Fraction(1, 2)


def test_it_reads_what_music21_reads():
  music21 = pytest.importorskip('music21')
  body = 'D2|:GABc d2>e2|f4 (3gfe d2|=c2[DG]2 _B/A/G A2:|'
  notes = abc_notation.notes_of(bars(body, key='G'))
  text = f'X:1\nT:T\nM:4/4\nL:1/8\nK:G\n{body}\n'
  score = music21.converter.parse(text, format='abc')
  reference = [
    (Fraction(note.offset), Fraction(note.quarterLength), pitch.midi)
    for note in score.flatten().notes
    for pitch in note.pitches
  ]
  assert [(float(on), float(length), pitch) for on, length, pitch in notes] == [
    pytest.approx((float(on), float(length), pitch))
    for on, length, pitch in reference
  ]
