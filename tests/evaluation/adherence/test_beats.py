# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import beats

RATE_HZ = 16_000


def clicks(pattern, *, pulse_seconds, seconds=13, background=0.0):
  """Decaying bursts of noise, as loud as the pattern says, over and over."""
  draws = np.random.default_rng(0)
  noise = draws.normal(size=RATE_HZ // 10)
  burst = noise * np.exp(-np.arange(noise.size) / 200)
  waveform = background * draws.normal(size=RATE_HZ * seconds)
  for number in range(int((seconds - 0.2) / pulse_seconds)):
    start = round(number * pulse_seconds * RATE_HZ)
    loud = pattern[number % len(pattern)]
    waveform[start : start + burst.size] += 0.1 * loud * burst
  return waveform.astype(np.float32)


@pytest.mark.parametrize('bpm', [80.0, 120.0, 150.0])
def test_the_tempo_of_clicks_is_found(bpm):
  heard = beats.listen(
    clicks([1], pulse_seconds=60 / bpm), sample_rate_hz=RATE_HZ
  )
  assert beats.is_tempo(heard.tempo_bpm, bpm, octaves=True)
  assert not beats.is_tempo(heard.tempo_bpm, bpm * 1.3, octaves=True)


def test_a_tempo_is_right_within_eight_percent_and_octaves_are_told_apart():
  for octaves in (False, True):
    assert beats.is_tempo(107.9, 100.0, octaves=octaves)
    assert beats.is_tempo(92.1, 100.0, octaves=octaves)
    assert not beats.is_tempo(109.0, 100.0, octaves=octaves)
    assert not beats.is_tempo(0.0, 100.0, octaves=octaves)
  for factor in (2, 1 / 2, 3, 1 / 3):
    assert beats.is_tempo(100.0 * factor, 100.0, octaves=True)
    assert not beats.is_tempo(100.0 * factor, 100.0, octaves=False)


def meters_of(pattern, *, pulses_a_beat):
  """Meters that a pattern at 90 beats a minute could be in."""
  # Out of silence all bursts would rise alike, for loudness is in decibels.
  waveform = clicks(
    pattern, pulse_seconds=60 / 90 / pulses_a_beat, background=0.03
  )
  heard = beats.listen(waveform, sample_rate_hz=RATE_HZ)
  return {
    meter
    for meter in ('2/4', '3/4', '6/8', '9/8')
    if beats.is_division(heard, meter, tempo_bpm=90.0)
    and beats.is_bar(heard, meter, tempo_bpm=90.0)
  }


def test_the_meter_is_told_by_beats_and_bars():
  assert meters_of([4, 1, 2, 1], pulses_a_beat=2) == {'2/4'}
  assert meters_of([4, 1, 2, 1, 2, 1], pulses_a_beat=2) == {'3/4'}
  assert meters_of([4, 1, 1, 2, 1, 1], pulses_a_beat=3) == {'6/8'}
  assert meters_of([4, 1, 1, 2, 1, 1, 2, 1, 1], pulses_a_beat=3) == {'9/8'}


def test_silence_has_neither_tempo_nor_meter():
  heard = beats.listen(np.zeros(RATE_HZ, np.float32), sample_rate_hz=RATE_HZ)
  assert heard.tempo_bpm == 0
  for meter in ('2/4', '6/8'):
    assert not beats.is_division(heard, meter, tempo_bpm=90.0)
    assert not beats.is_bar(heard, meter, tempo_bpm=90.0)
