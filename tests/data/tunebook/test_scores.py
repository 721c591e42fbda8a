# SPDX-License-Identifier: Apache-2.0
import pathlib
from fractions import Fraction

import pytest

from musiclm_jax.data.tunebook import scores
from tests.data.tunebook import pieces


def test_an_abc_tune_gives_its_facts_and_its_repeats():
  score = scores.read_abc(pieces.JIG)
  assert str(score.meter) == '6/8'
  assert (score.key.tonic, score.key.mode) == ('E', 'dorian')
  assert score.tune_type == 'jig'
  assert score.tempo_bpm == 110
  assert score.length == 16 * 3
  assert score.upbeat == 0
  assert score.composer is None
  [notes] = score.parts
  # E dorian has two sharps: F and C.
  assert [note[2] for note in notes[:5]] == [64, 66, 67, 71, 73]


def test_a_tempo_is_converted_to_beats_of_the_meter():
  quarters = pieces.JIG.replace('Q:3/8=110', 'Q:1/4=90')
  assert scores.read_abc(quarters).tempo_bpm == 60
  bare = pieces.JIG.replace('Q:3/8=110', 'Q:80')
  assert scores.read_abc(bare).tempo_bpm == 80
  without = pieces.JIG.replace('Q:3/8=110\n', '')
  assert scores.read_abc(without).tempo_bpm is None


def test_the_upbeat_is_what_precedes_the_first_whole_bar():
  reel = pieces.REEL.format(number=1, title='T', bar='c2AF DFAc')
  score = scores.read_abc(reel)
  assert score.upbeat == 1
  assert score.length == 2 * 16


def test_a_key_that_changes_is_not_stated():
  changing = pieces.JIG.replace('efg', '[K:D]efg')
  assert scores.read_abc(changing).key is None


def test_a_tune_whose_bars_do_not_hold_its_meter_is_an_error():
  with pytest.raises(ValueError, match='Most of its bars last 3 quarter'):
    scores.read_abc(pieces.JIG.replace('M:6/8', 'M:4/4'))
  with pytest.raises(ValueError, match='It has no notes'):
    scores.read_abc('X:1\nT:T\nM:C\nK:G\n% nothing\n')


def test_a_chorale_has_four_voices_with_ties_joined(tmp_path: pathlib.Path):
  path = tmp_path / 'bwv1.xml'
  path.write_text(pieces.chorale())
  score = scores.read_chorale(path)
  assert [len(part) for part in score.parts] == [5, 5, 5, 5]
  soprano = score.parts[0]
  assert [note[2] for note in soprano] == [69, 71, 72, 69, 69]
  assert soprano[-1][:2] == (Fraction(8), Fraction(4))
  assert score.length == 12
  assert (score.key.tonic, score.key.mode) == ('A', 'minor')
  assert score.tune_type == 'chorale'
  assert score.composer == 'Johann Sebastian Bach'


def test_a_key_that_the_last_bass_note_denies_is_not_stated(
  tmp_path: pathlib.Path,
):
  path = tmp_path / 'bwv1.xml'
  # No accidentals and 'major' would be C, but it ends on A.
  path.write_text(pieces.chorale(mode='major'))
  assert scores.read_chorale(path).key is None


def test_a_file_that_a_mail_program_broke_is_mended(tmp_path: pathlib.Path):
  path = tmp_path / 'mailed.abc'
  path.write_text(
    pieces.JIG.replace('d3 B', 'd3 =\nB').replace('E3:|', 'E3:|=20')
  )
  [text] = scores.split_tunes(path)
  assert scores.read_abc(text) == scores.read_abc(pieces.JIG)
