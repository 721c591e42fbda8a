# SPDX-License-Identifier: Apache-2.0
"""Notes that are known, synthesized and written down again."""

import importlib.util

import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import notes

RATE_HZ = 24_000
FRAME_SECONDS = 256 / 22_050
needs_weights = pytest.mark.skipif(
  importlib.util.find_spec('basic_pitch') is None, reason='needs basic-pitch'
)


def make(onset, pitch, duration=0.3):
  return notes.Notes(
    onset_seconds=np.array(onset, float),
    duration_seconds=np.broadcast_to(duration, len(onset)).astype(float),
    pitch=np.array(pitch, int),
  )


# Longer than two windows; a repeated pitch, an octave and a chord of three.
TUNE = make(
  [0.1, 0.5, 0.9, 1.3, 1.7, 2.1, 2.5, 2.5, 2.5, 3.1, 3.6, 4.1],
  [60, 62, 64, 64, 67, 79, 60, 64, 67, 72, 55, 60],
)


def play(tune, *, seconds=5):
  """Six harmonics a note, struck and decaying."""
  waveform = np.zeros(seconds * RATE_HZ, np.float32)
  for onset, duration, pitch in zip(
    tune.onset_seconds, tune.duration_seconds, tune.pitch
  ):
    time = np.arange(round(duration * RATE_HZ)) / RATE_HZ
    hz = 440 * 2 ** ((pitch - 69) / 12)
    tone = sum(np.sin(2 * np.pi * k * hz * time) / k**1.5 for k in range(1, 7))
    envelope = np.minimum(time / 0.005, 1) * np.exp(-3 * time)
    start = round(onset * RATE_HZ)
    waveform[start : start + len(time)] += 0.15 * tone * envelope
  return waveform


@pytest.fixture(scope='module')
def transcriber():
  return notes.Transcriber()


@needs_weights
def test_a_tune_survives_the_round_trip(transcriber):
  heard = transcriber(play(TUNE), sample_rate_hz=RATE_HZ)
  # Every note is found, and with some of them their octave.
  num_heard = len(heard.pitch)
  assert num_heard <= 21
  assert notes.onset_f1(TUNE, heard) == pytest.approx(24 / (12 + num_heard))
  assert notes.chroma_cosine(TUNE, heard) > 0.95
  moved = make(TUNE.onset_seconds, TUNE.pitch + 1)
  assert notes.onset_f1(moved, heard) < 0.2
  assert notes.chroma_cosine(moved, heard) < 0.5


@needs_weights
def test_onsets_are_in_time_in_every_window(transcriber):
  ticks = make(np.arange(0.2, 6.8, 0.33), [69] * 20, duration=0.2)
  heard = transcriber(play(ticks, seconds=7), sample_rate_hz=RATE_HZ)
  assert len(heard.pitch) == 20
  late = heard.onset_seconds - ticks.onset_seconds
  assert np.abs(late).max() < 0.03
  assert np.abs(late[:5].mean() - late[-5:].mean()) < 0.01


@needs_weights
def test_silence_has_no_notes(transcriber):
  silence = np.zeros(RATE_HZ, np.float32)
  assert not transcriber(silence, sample_rate_hz=RATE_HZ).pitch.size


@needs_weights
@pytest.mark.slow
def test_notes_are_nearly_those_of_the_package(transcriber):
  """Which has the same network and a longer way from there to notes."""
  from basic_pitch import note_creation

  from musiclm_jax.audio import resample

  heard = resample.resample(play(TUNE), from_hz=RATE_HZ, to_hz=22_050)
  times, onsets, sounding = transcriber.activations(heard)
  theirs = note_creation.output_to_notes_polyphonic(
    sounding, onsets, 0.5, 0.3, 5, True, None, None, melodia_trick=False
  )
  start, end, pitch, _ = map(np.array, zip(*theirs))
  wanted = make(times[start], pitch, duration=(end - start) * FRAME_SECONDS)
  ours = notes.read_notes(times, onsets, sounding)
  # Measured 0.92: the package also infers onsets from what sounds.
  assert notes.onset_f1(wanted, ours) > 0.85


def test_notes_of_activations_by_hand():
  times = np.arange(40) * FRAME_SECONDS
  onsets, sounding = np.zeros((2, 40, 88))
  onsets[4:7, 3] = 0.6, 0.9, 0.6  # One peak, not three.
  sounding[7:23, 3] = 0.8
  onsets[15, 3] = 0.7  # Struck again while it sounds.
  onsets[4, 9] = 0.9  # Nothing sounds.
  onsets[10, 40], sounding[10:30, 40] = 0.4, 0.9  # Not sure enough.
  found = notes.read_notes(times, onsets, sounding)
  assert found.pitch.tolist() == [24, 24]
  np.testing.assert_allclose(found.onset_seconds, times[[5, 15]])
  np.testing.assert_allclose(
    found.duration_seconds, np.array([10, 8]) * FRAME_SECONDS
  )


def test_onsets_count_within_fifty_milliseconds_and_a_quarter_tone():
  wanted = make([0, 1, 2, 3], [60, 62, 64, 65])
  heard = make([0.04, 1.06, 2, 3, 3.5], [60, 62, 65, 65, 60], duration=0.1)
  # Two of four wanted, of five heard.
  assert notes.onset_f1(wanted, heard) == pytest.approx(2 * 2 / (4 + 5))
  nothing = make([], [])
  assert notes.onset_f1(wanted, nothing) == 0
  assert notes.chroma_cosine(nothing, heard) == 0


def test_pitch_classes_forgive_octaves_and_weigh_durations():
  wanted = make([0, 1], [60, 64], duration=[3.0, 4.0])
  assert notes.chroma_cosine(
    wanted, make([0, 9], [72, 40], duration=[6.0, 8.0])
  ) == pytest.approx(1)
  assert notes.chroma_cosine(wanted, make([0], [48])) == pytest.approx(0.6)


def test_facts_of_a_part_are_the_notes_that_begin_in_it():
  facts = {
    'onset_seconds': [0.0, 1.0, 2.5, 4.0],
    'duration_seconds': [1.0, 2.0, 3.0, 4.0],
    'pitch': [60, 61, 62, 63],
  }
  part = notes.Notes.of_facts(facts, start=1.0, seconds=3.0)
  assert part.pitch.tolist() == [61, 62]
  assert part.onset_seconds.tolist() == [0, 1.5]
  assert part.duration_seconds.tolist() == [2, 3]
  assert notes.Notes.of_facts(facts).pitch.tolist() == [60, 61, 62, 63]
