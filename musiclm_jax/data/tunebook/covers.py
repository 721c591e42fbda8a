# SPDX-License-Identifier: Apache-2.0
"""One tune played twice: by two instruments, at two tempos, at one pitch.

What two such renderings share is the melody. All tunes that one pair of
instruments plays lie about the same mean pitch, so that register and timbre do
not tell one from another. Ours throughout.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from musiclm_jax.data import sources
from musiclm_jax.data.tunebook import (
  arrangement,
  catalogue,
  instruments,
  midi,
  render,
)

# Of different families, with much of their ranges in common.
PAIRS: tuple[tuple[str, str], ...] = (
  ('violin', 'grand piano'),
  ('flute', 'harp'),
  ('clarinet', 'marimba'),
  ('trumpet', 'string ensemble'),
  ('church organ', 'oboe'),
  ('harpsichord', 'recorder'),
)

_DYNAMICS = 'mf'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cover:
  """Two renderings of the same stretch of one tune.

  Attributes:
    tune_id: As in the catalogue.
    players: The instruments, by name.
    waveforms: One rendering by each, at `render.SAMPLE_RATE_HZ`.
  """

  tune_id: str
  players: tuple[str, str]
  waveforms: tuple[Float[np.ndarray, ' first'], Float[np.ndarray, ' second']]


def covers(
  *, num_tunes: int, splits: tuple[str, ...], seconds: int | float = 12
) -> Iterator[Cover]:
  """Renders tunes of some splits, the pairs of instruments in turn.

  Args:
    num_tunes: How many; a fixed draw.
    splits: Such as ('validation', 'test').
    seconds: Of music, in the slower rendering.

  Raises:
    ValueError: There are fewer tunes of one part that both instruments reach.
  """
  found = 0
  for tune_id in _drawn(splits):
    if found == num_tunes:
      return
    tune = catalogue.read_tune(tune_id, folder=catalogue.corpus_folder())
    if tune.score is None or len(tune.score.parts) > 1:
      continue
    players = PAIRS[found % len(PAIRS)]
    waveforms = _render_pair(tune, players=players, seconds=seconds)
    if waveforms:
      found += 1
      yield Cover(tune_id=tune_id, players=players, waveforms=waveforms)
  if found < num_tunes:
    raise ValueError(
      f'{num_tunes} tunes of {" and ".join(splits)} are wanted, but only'
      f' {found} can be played by two instruments; ask for fewer.'
    )


@functools.lru_cache(maxsize=2)
def _drawn(splits: tuple[str, ...]) -> tuple[str, ...]:
  """One tune of each group of these splits, shuffled."""
  tunes = list(catalogue.tunes(catalogue.corpus_folder()))
  groups = catalogue.groups(tunes)
  first_of = {
    groups[tune.id]: tune.id
    for tune in reversed(tunes)
    if sources.split_of(groups[tune.id]) in splits
  }
  drawn = sorted(first_of.values())
  arrangement.generator('draw of covers').shuffle(drawn)
  return tuple(drawn)


def _render_pair(
  tune: catalogue.Tune, *, players: tuple[str, str], seconds: int | float
) -> tuple[np.ndarray, np.ndarray] | None:
  """None if no transposition suits both players."""
  both = [instruments.INSTRUMENTS[name] for name in players]
  semitones = _transposition(tune, both)
  if semitones is None:
    return None
  tempos = [
    arrangement.arrange(
      tune.score, tune_id=tune.id, rendering=number, seed=0
    ).bpm
    for number in range(2)
  ]
  num_beats = seconds * min(tempos) / 60
  first, second = (
    _play(tune, player=player, semitones=semitones, bpm=bpm, beats=num_beats)
    for player, bpm in zip(both, tempos)
  )
  return first, second


def _transposition(
  tune: catalogue.Tune, players: list[instruments.Instrument]
) -> int | None:
  """What brings the mean pitch nearest to the middle of the common range."""
  (melody,) = tune.score.parts
  lowest = max(player.lowest for player in players)
  highest = min(player.highest for player in players)
  pitches = [pitch for _, _, pitch in melody]
  fitting = range(lowest - min(pitches), highest - max(pitches) + 1)
  length = sum(duration for _, duration, _ in melody)
  mean = sum(duration * pitch for _, duration, pitch in melody) / length
  middle = Fraction(lowest + highest, 2)
  return min(fitting, key=lambda s: abs(mean + s - middle), default=None)


def _play(
  tune: catalogue.Tune,
  *,
  player: instruments.Instrument,
  semitones: int,
  bpm: int,
  beats: float,
) -> Float[np.ndarray, ' samples']:
  """The first beats of the melody alone, played over until they are full."""
  score = tune.score
  (melody,) = score.parts
  length_beats = score.length / score.meter.beat_length
  arranged = arrangement.Arrangement(
    texture=arrangement.SOLO,
    players=(player,),
    parts=(
      tuple((on, length, pitch + semitones) for on, length, pitch in melody),
    ),
    length=score.length,
    times=math.ceil(beats / length_beats),
    meter=score.meter,
    bpm=bpm,
    dynamics=_DYNAMICS,
    semitones=semitones,
    key=None,
  )
  file = midi.midi_file(midi.perform(arranged), programs=[player.program])
  waveform = render.render(file, dynamics=_DYNAMICS)
  num_samples = round(beats * 60 / bpm * render.SAMPLE_RATE_HZ)
  return waveform[:num_samples]
