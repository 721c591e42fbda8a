# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from musiclm_jax.data.tunebook import musicxml
from tests.data.tunebook import pieces


def test_a_compressed_file_reads_as_a_plain_one(tmp_path: pathlib.Path):
  folder = pieces.write_folder(tmp_path) / 'bach'
  compressed = musicxml.read_text(folder / 'bwv997.mxl')
  assert compressed == musicxml.read_text(folder / 'bwv998.xml')


def test_meter_key_measures_and_voices_are_as_written():
  chorale = musicxml.read_chorale(pieces.chorale())
  assert str(chorale.meter) == '4/4'
  assert chorale.measures == (4, 4, 4)
  assert chorale.key.tonic == 'A'
  assert [note[2] for note in chorale.voices[3]] == [45, 52, 45, 45, 45]


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('>Tenor<', '>Tuba<', '0 parts named Tenor'),
    ('<divisions>', '<transpose/><divisions>', 'transposing instrument'),
    ('<measure>', '<measure><barline><repeat/></barline>', 'written repeats'),
    ('<beats>4</beats>', '<beats>x</beats>', 'not a meter'),
  ],
)
def test_what_is_not_a_plain_chorale_is_an_error(
  old: str, new: str, message: str
):
  with pytest.raises(ValueError, match=message):
    musicxml.read_chorale(pieces.chorale().replace(old, new))


def test_a_part_that_doubles_the_voices_is_left_out():
  text = pieces.chorale()
  with_horn = text.replace(
    '</part-list>',
    '<score-part id="H"><part-name>Horn</part-name></score-part></part-list>'
    '<part id="H"><measure/></part>',
  )
  assert musicxml.read_chorale(with_horn) == musicxml.read_chorale(text)
