# SPDX-License-Identifier: Apache-2.0
import io

import mido
import pytest

from musiclm_jax.data.tunebook import arrangement, midi, scores
from tests.data.tunebook import pieces


@pytest.fixture
def arranged() -> arrangement.Arrangement:
  score = scores.read_abc(pieces.JIG)
  drawn = (
    arrangement.arrange(score, tune_id='t', rendering=n, seed=0)
    for n in range(100)
  )
  return next(a for a in drawn if a.texture == arrangement.DRONE)


def test_notes_are_timed_by_the_tempo(arranged: arrangement.Arrangement):
  performance = midi.perform(arranged)
  beat = 60 / arranged.bpm
  melody = [note for note in performance.notes if note.part == 0]
  # The second bar of 6/8 starts after two beats of a dotted quarter.
  second_bar = next(n for n in melody if n.onset_ticks == 2 * 720)
  assert performance.seconds(second_bar.onset_ticks) == pytest.approx(
    2 * beat, rel=1e-5
  )
  assert performance.end_ticks == arranged.times * 16 * 3 * 480
  assert len(melody) == arranged.times * len(arranged.parts[0])


def test_the_file_holds_exactly_the_notes_of_the_performance(
  arranged: arrangement.Arrangement,
):
  performance = midi.perform(arranged)
  programs = [player.program for player in arranged.players]
  file = midi.midi_file(performance, programs=programs)
  read = mido.MidiFile(file=io.BytesIO(file))
  tempi = [m for track in read.tracks for m in track if m.type == 'set_tempo']
  assert [m.tempo for m in tempi] == [performance.tempo_us]
  onsets = []
  for part, track in enumerate(read.tracks[1:]):
    now = 0
    for message in track:
      now += message.time
      if message.type == 'program_change':
        assert message.program == programs[part]
      if message.type == 'note_on':
        onsets.append((now, part, message.note, message.velocity))
  assert sorted(onsets) == [
    (n.onset_ticks, n.part, n.pitch, n.velocity) for n in performance.notes
  ]
  # And a second in which it rings out.
  assert read.length == pytest.approx(
    performance.seconds(performance.end_ticks) + 1, abs=0.01
  )


def test_a_repeated_note_ends_before_it_is_struck_again(
  arranged: arrangement.Arrangement,
):
  notes = midi.perform(arranged).notes
  by_pitch: dict = {}
  for note in notes:
    previous = by_pitch.get((note.part, note.pitch))
    assert previous is None or previous.end_ticks <= note.onset_ticks
    by_pitch[note.part, note.pitch] = note


def test_louder_dynamics_are_struck_harder():
  velocities = [midi.VELOCITY[word] for word in arrangement.DYNAMICS]
  assert velocities == sorted(set(velocities))
  assert max(velocities) + midi.DOWNBEAT_ACCENT <= 127
