# SPDX-License-Identifier: Apache-2.0
"""Two renderings of a tune share its notes, and nothing else tells tunes apart."""

from fractions import Fraction

import numpy as np
import pytest

from musiclm_jax.data.tunebook import (
  catalogue,
  covers,
  instruments,
  meters,
  scores,
)


def tune(*, pitches=(62, 64, 67, 69), tune_id='toy'):
  """One bar of four quarters in 4/4."""
  notes = tuple((Fraction(n), Fraction(1), p) for n, p in enumerate(pitches))
  score = scores.Score(
    parts=(notes,),
    length=Fraction(4),
    upbeat=Fraction(0),
    outlines=(),
    meter=meters.Meter(beats=4, unit=4),
    key=None,
    tune_type=None,
  )
  return catalogue.Tune(id=tune_id, titles=('A toy',), score=score)


@pytest.fixture
def toys(monkeypatch):
  known = {str(n): tune(tune_id=str(n)) for n in range(8)}
  known['0'] = tune(pitches=(20, 120))  # Nobody reaches both.
  known['1'] = catalogue.Tune(id='1', titles=('Torn',), problem='torn')
  monkeypatch.setattr(covers, '_drawn', lambda splits: tuple(known))
  monkeypatch.setattr(catalogue, 'corpus_folder', lambda: None)
  monkeypatch.setattr(
    catalogue, 'read_tune', lambda tune_id, folder: known[tune_id]
  )
  return known


def test_both_play_as_many_beats_at_their_own_tempos(toys):
  found = list(covers.covers(num_tunes=3, splits=('test',), seconds=4))
  assert [cover.tune_id for cover in found] == ['2', '3', '4']
  assert [cover.players for cover in found] == list(covers.PAIRS[:3])
  for cover in found:
    lengths = [waveform.size / 24_000 for waveform in cover.waveforms]
    assert max(lengths) == pytest.approx(4, abs=0.01)
    assert min(lengths) < 3.9  # The other one is faster.
    assert all(np.abs(waveform).max() > 0.01 for waveform in cover.waveforms)


def test_the_same_call_renders_the_same_samples(toys):
  first, again = (
    next(covers.covers(num_tunes=1, splits=('test',), seconds=2))
    for _ in range(2)
  )
  np.testing.assert_array_equal(first.waveforms[0], again.waveforms[0])


def test_high_and_low_tunes_are_brought_to_one_mean_pitch():
  players = [
    instruments.INSTRUMENTS[name] for name in ('violin', 'grand piano')
  ]
  low, high = tune(pitches=(40, 42, 44)), tune(pitches=(90, 92, 94))
  middle = (55 + 96) / 2
  for melody, mean in ((low, 42), (high, 92)):
    semitones = covers._transposition(melody, players)
    assert abs(mean + semitones - middle) <= 0.5


def test_every_pair_is_of_two_families_that_share_two_octaves():
  for pair in covers.PAIRS:
    first, second = (instruments.INSTRUMENTS[name] for name in pair)
    assert first.family != second.family
    common = min(first.highest, second.highest) - max(
      first.lowest, second.lowest
    )
    assert common >= 24


def test_more_tunes_than_there_are_is_named(toys):
  with pytest.raises(
    ValueError, match='9 tunes of test are wanted, but only 6'
  ):
    list(covers.covers(num_tunes=9, splits=('test',), seconds=1))
