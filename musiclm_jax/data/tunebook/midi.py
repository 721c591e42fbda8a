# SPDX-License-Identifier: Apache-2.0
"""An arrangement as timed notes, and those as a MIDI file.

Times are rounded to MIDI ticks once, here: the notes that a clip's facts list
are exactly the notes that are rendered.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from fractions import Fraction

from musiclm_jax.data.tunebook import arrangement as arrangements

_TICKS_PER_QUARTER = 480
# General MIDI's channel 10 (9 from zero) is the drums.
_DRUMS = 9
# What is sounded of a note's length, so that repeated notes are struck anew.
_SOUNDED = Fraction(19, 20)
VELOCITY = {'pp': 56, 'p': 66, 'mp': 76, 'mf': 88, 'f': 100, 'ff': 114}
DOWNBEAT_ACCENT = 6
_TAIL_SECONDS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimedNote:
  """One note as it is rendered; `part` counts from 0, the melody."""

  onset_ticks: int
  end_ticks: int
  pitch: int
  velocity: int
  part: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Performance:
  """A whole rendering in ticks.

  Attributes:
    notes: In order of onset.
    tempo_us: Microseconds a quarter note, a whole number as MIDI wants it.
    end_ticks: Of the music, the last rest included.
  """

  notes: tuple[TimedNote, ...]
  tempo_us: int
  end_ticks: int

  def seconds(self, ticks: int) -> float:
    return ticks * self.tempo_us / (1e6 * _TICKS_PER_QUARTER)


def perform(arrangement: arrangements.Arrangement) -> Performance:
  """Plays the arrangement as often as it says."""
  notes = []
  for time in range(arrangement.times):
    start = time * arrangement.length
    for part, part_notes in enumerate(arrangement.parts):
      for onset, length, pitch in part_notes:
        velocity = VELOCITY[arrangement.dynamics]
        if onset % arrangement.meter.beat_length == 0:
          velocity += DOWNBEAT_ACCENT
        notes.append(
          TimedNote(
            onset_ticks=_ticks(start + onset),
            end_ticks=_ticks(start + onset + length * _SOUNDED),
            pitch=pitch,
            velocity=velocity,
            part=part,
          )
        )
  quarters = 60 / (arrangement.bpm * arrangement.meter.beat_length)
  return Performance(
    notes=tuple(sorted(notes, key=lambda n: (n.onset_ticks, n.part, n.pitch))),
    tempo_us=round(quarters * 1_000_000),
    end_ticks=_ticks(arrangement.times * arrangement.length),
  )


def midi_file(performance: Performance, *, programs: Sequence[int]) -> bytes:
  """A type 1 MIDI file with a channel for each part, and a second to ring out."""
  import mido

  file = mido.MidiFile(ticks_per_beat=_TICKS_PER_QUARTER)
  tempo = mido.MetaMessage('set_tempo', tempo=performance.tempo_us)
  file.tracks.append(mido.MidiTrack([tempo]))
  tail = _TAIL_SECONDS * 1_000_000 * _TICKS_PER_QUARTER // performance.tempo_us
  for part, program in enumerate(programs):
    channel = part if part < _DRUMS else part + 1
    track = mido.MidiTrack()
    track.append(
      mido.Message('program_change', channel=channel, program=program)
    )
    # At full volume, as the renderer writes 16 bits and is normalised after.
    track.append(
      mido.Message('control_change', channel=channel, control=7, value=127)
    )
    # Ends sort before onsets, so that a repeated note is not cut off.
    events = []
    for note in performance.notes:
      if note.part == part:
        events.append((note.onset_ticks, 1, note.pitch, note.velocity))
        events.append((note.end_ticks, 0, note.pitch, 0))
    now = 0
    for ticks, is_onset, pitch, velocity in sorted(events):
      track.append(
        mido.Message(
          'note_on' if is_onset else 'note_off',
          channel=channel,
          note=pitch,
          velocity=velocity,
          time=ticks - now,
        )
      )
      now = ticks
    end = performance.end_ticks + tail
    track.append(mido.MetaMessage('end_of_track', time=end - now))
    file.tracks.append(track)
  written = io.BytesIO()
  file.save(file=written)
  return written.getvalue()


def _ticks(quarters: Fraction) -> int:
  return round(quarters * _TICKS_PER_QUARTER)
