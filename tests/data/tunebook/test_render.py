# SPDX-License-Identifier: Apache-2.0
import functools
from fractions import Fraction

import numpy as np
import pytest
import scipy.signal

from musiclm_jax.audio import loudness
from musiclm_jax.data.tunebook import (
  arrangement,
  instruments,
  meters,
  midi,
  render,
)

RATE_HZ = render.SAMPLE_RATE_HZ


def rendered(
  notes: list[tuple[float, float, int]], *, name: str, dynamics: str = 'mf'
) -> np.ndarray:
  """Notes (quarters) at 60 a minute, by one instrument."""
  arranged = arrangement.Arrangement(
    texture=arrangement.SOLO,
    players=(instruments.INSTRUMENTS[name],),
    parts=(
      tuple((Fraction(on), Fraction(n), pitch) for on, n, pitch in notes),
    ),
    length=Fraction(max(on + n for on, n, _ in notes)),
    times=1,
    meter=meters.parse_meter('4/4'),
    bpm=60,
    dynamics=dynamics,
    semitones=0,
    key=None,
  )
  program = instruments.INSTRUMENTS[name].program
  file = midi.midi_file(midi.perform(arranged), programs=[program])
  return render.render(file, dynamics=dynamics)


def pitch_hz(waveform: np.ndarray) -> float:
  """By the highest peak of the autocorrelation, refined by a parabola."""
  spectrum = np.fft.rfft(waveform * np.hanning(len(waveform)), 2**17)
  correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: RATE_HZ // 60]
  correlation /= correlation[0]
  shortest = RATE_HZ // 2200
  peaks, _ = scipy.signal.find_peaks(correlation)
  peaks = peaks[peaks >= shortest]
  best = correlation[peaks].max()
  # The shortest period among those nearly as good: its multiples repeat too.
  lag = peaks[correlation[peaks] > 0.9 * best][0]
  before, at, after = correlation[lag - 1 : lag + 2]
  shift = (before - after) / (2 * (before - 2 * at + after))
  return RATE_HZ / (lag + shift)


@pytest.mark.parametrize(
  'name',
  [
    'cello',
    'clarinet',
    'electric piano',
    'flute',
    'grand piano',
    'harp',
    'nylon-string guitar',
    'reed organ',
    'trumpet',
    'violin',
  ],
)
def test_an_a_sounds_at_440_hz(name: str):
  waveform = rendered([(0, 2, 69)], name=name)
  start = int(0.15 * RATE_HZ)
  heard = pitch_hz(waveform[start : start + RATE_HZ // 2])
  assert heard == pytest.approx(440, rel=0.01)


def cents_off(waveform: np.ndarray, *, expected_hz: float) -> float:
  """Of the partial (1 to 4) that is furthest off among the strong ones."""
  spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 2**18))
  hz = np.fft.rfftfreq(2**18, 1 / RATE_HZ)
  strength, cents = [], []
  for partial in range(1, 5):
    near = np.abs(np.log2(hz[1:] / (partial * expected_hz))) < 1 / 12
    at = np.argmax(spectrum[1:] * near) + 1
    strength.append(spectrum[at])
    cents.append(1200 * np.log2(hz[at] / (partial * expected_hz)))
  # The strongest of all may be a partial that is no multiple, or a sub-octave.
  assert max(strength) > spectrum.max() / 8
  strong = [c for s, c in zip(strength, cents) if s > max(strength) / 3]
  return max(strong, key=abs)


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(instruments.INSTRUMENTS))
def test_every_note_of_an_instrument_sounds_and_is_in_tune(name: str):
  player = instruments.INSTRUMENTS[name]
  for pitch in range(player.lowest, player.highest + 1):
    waveform = rendered([(0, 1, pitch)], name=name, dynamics='pp')
    heard = waveform[RATE_HZ // 10 : RATE_HZ]
    expected_hz = 440 * 2 ** ((pitch - 69) / 12)
    # A third of a semitone: a section of strings wavers by 28 cents.
    assert abs(cents_off(heard, expected_hz=expected_hz)) < 33, pitch


@functools.cache
def scale(dynamics: str) -> np.ndarray:
  notes = [(n / 2, 0.5, 60 + n) for n in range(7)]
  return rendered(notes, name='marimba', dynamics=dynamics)


def test_each_dynamic_word_is_louder_than_the_one_before():
  levels = [loudness.rms_db(scale(word)) for word in arrangement.DYNAMICS]
  assert levels == sorted(levels)
  assert min(np.diff(levels)) > 2
  for word, level in zip(arrangement.DYNAMICS, levels):
    assert level == pytest.approx(render.LEVEL_DBFS[word], abs=0.01)


def test_it_is_mono_within_full_scale_and_rings_out():
  waveform = scale('ff')
  assert waveform.dtype == np.float32 and waveform.ndim == 1
  assert np.abs(waveform).max() <= 1
  assert len(waveform) == pytest.approx((3.5 + 1) * RATE_HZ, abs=2)


@pytest.mark.parametrize('name', ['kalimba', 'marimba', 'grand piano'])
def test_energy_rises_where_a_note_begins(name: str):
  onsets = [0.5, 1.0, 1.75, 2.5, 3.25]
  notes = [(on, 0.25, 72 + n) for n, on in enumerate(onsets)]
  waveform = rendered(notes, name=name)
  hop = RATE_HZ // 200
  frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
  decibels = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-9)
  rise = decibels[3:] - decibels[:-3]
  for onset in onsets:
    near = slice(int((onset - 0.06) * 200) - 2, int((onset + 0.06) * 200))
    assert rise[near].max() > 6
  quiet = slice(int(0.1 * 200), int(0.4 * 200))
  assert rise[quiet].max() < 6  # The probe itself works.


def test_a_level_that_would_clip_is_an_error():
  click_and_rest = [(0, 0.25, 72), (16, 0.25, 72)]
  with pytest.raises(ValueError, match='its peak is 1.*within 1'):
    rendered(click_and_rest, name='marimba', dynamics='ff')


def test_silence_is_an_error():
  nothing = midi.Performance(notes=(), tempo_us=500_000, end_ticks=480)
  with pytest.raises(ValueError, match='silence'):
    render.render(midi.midi_file(nothing, programs=[0]), dynamics='mf')
