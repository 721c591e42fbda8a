# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.data.tunebook import keys


@pytest.mark.parametrize(
  ('header', 'tonic', 'mode', 'fifths'),
  [
    ('G', 'G', 'major', 1),
    ('EM', 'E', 'major', 4),
    ('Em', 'E', 'minor', 1),
    ('A Mixolydian', 'A', 'mixolydian', 2),
    ('EDor', 'E', 'dorian', 2),
    ('Bb', 'Bb', 'major', -2),
    ('F#m', 'F#', 'minor', 3),
    ('Glyd', 'G', 'lydian', 2),
    ('Bphr', 'B', 'phrygian', 1),
  ],
)
def test_a_key_header_gives_tonic_mode_and_signature(
  header: str, tonic: str, mode: str, fifths: int
):
  key = keys.parse_key(header)
  assert (key.tonic, key.mode, key.fifths) == (tonic, mode, fifths)


@pytest.mark.parametrize('header', ['Hp', 'Dmix=c', 'Bn', 'Dmixm', '', 'g'])
def test_a_key_header_that_is_not_understood_is_an_error(header: str):
  with pytest.raises(ValueError, match='is not a tonic|no mode that is known'):
    keys.parse_key(header)


def test_the_signature_alters_the_letters_it_should():
  d_major = keys.parse_key('D')
  assert {s for s in 'CDEFGAB' if d_major.alteration(s) == 1} == {'F', 'C'}
  e_flat = keys.parse_key('Eb')
  assert {s for s in 'CDEFGAB' if e_flat.alteration(s) == -1} == set('BEA')


def test_signature_and_mode_give_the_key_back():
  for mode in ('major', 'minor', 'dorian'):
    for fifths in range(-6, 7):
      key = keys.key_of_signature(fifths=fifths, mode=mode)
      assert (key.fifths, key.mode) == (fifths, mode)


def test_a_transposed_key_moves_its_tonic_and_keeps_its_mode():
  key = keys.parse_key('Ador')
  for semitones in range(-13, 14):
    moved = key.transposed(semitones)
    assert moved.pitch_class == (9 + semitones) % 12
    assert moved.mode == 'dorian'
    assert abs(moved.fifths) <= 6
  assert keys.parse_key('C').transposed(1).tonic == 'Db'
