# SPDX-License-Identifier: Apache-2.0
"""One rendering of a tune: who plays it, how fast, how loud, in which key.

Drawn from (tune, rendering, seed) alone, so that a rendering is the same in
every process and on every machine. Ours throughout: no paper speaks of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Sequence
from fractions import Fraction

from musiclm_jax.data.tunebook import instruments, keys, meters, scores

SOLO = 'solo'
OCTAVES = 'octaves'
DRONE = 'drone'
CHORALE = 'chorale'

# Softest first.
DYNAMICS = ('pp', 'p', 'mp', 'mf', 'f', 'ff')

_SHORTEST_SECONDS = 45
_RANGE_BPM = (44, 216)
# Beats a minute where the source has no tempo, by tune type. A type that is
# often written in 4/4 with quarter beats is twice as fast there.
_TYPICAL_BPM = {
  'reel': 100,
  'hornpipe': 80,
  'clog': 80,
  'strathspey': 60,
  'highland fling': 66,
  'walkaround': 96,
  'jig': 112,
  'double jig': 112,
  'slide': 120,
  'slip jig': 112,
  'waltz': 132,
  'march': 104,
  'air': 66,
  'chorale': 76,
}
_TYPICAL_WITHOUT_TYPE_BPM = 92

# That a tune may say it is.
TUNE_TYPES = tuple(_TYPICAL_BPM)
_FASTER_IN_QUARTERS = frozenset(
  {'reel', 'hornpipe', 'clog', 'strathspey', 'highland fling'}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrangement:
  """How a score is played.

  Attributes:
    texture: `SOLO`, `OCTAVES`, `DRONE` or `CHORALE`.
    players: One instrument for each part.
    parts: Notes of each part (quarter notes), transposed, played once.
    length: Of one time through, in quarter notes.
    times: How often the whole is played.
    meter: Of the score.
    bpm: Beats of the meter a minute.
    dynamics: One of `DYNAMICS`.
    semitones: The melody's transposition.
    key: As it sounds, or None.
  """

  texture: str
  players: tuple[instruments.Instrument, ...]
  parts: tuple[tuple[scores.Note, ...], ...]
  length: Fraction
  times: int
  meter: meters.Meter
  bpm: int
  dynamics: str
  semitones: int
  key: keys.Key | None


def generator(*names: str | int) -> random.Random:
  """A generator that depends on `names` alone, on every platform."""
  text = '\n'.join(map(str, names))
  digest = hashlib.sha256(text.encode()).digest()
  return random.Random(int.from_bytes(digest[:16], 'big'))


def arrange(
  score: scores.Score, *, tune_id: str, rendering: int, seed: int
) -> Arrangement:
  """Draws one rendering."""
  draw = generator('arrangement', tune_id, rendering, seed)
  bpm = _draw_bpm(draw, score=score)
  dynamics = draw.choice(DYNAMICS)
  make = _draw_choir if len(score.parts) > 1 else _draw_melody
  setting = make(draw, score=score)
  once_seconds = score.length / score.meter.beat_length * 60 / bpm
  return Arrangement(
    texture=setting.texture,
    players=setting.players,
    parts=setting.parts,
    length=score.length,
    times=math.ceil(_SHORTEST_SECONDS / once_seconds),
    meter=score.meter,
    bpm=bpm,
    dynamics=dynamics,
    semitones=setting.semitones,
    key=score.key and score.key.transposed(setting.semitones),
  )


def _draw_bpm(draw: random.Random, *, score: scores.Score) -> int:
  """The source's tempo, or one typical of the type, up to 4/3 up or down."""
  typical = score.tempo_bpm
  if typical is None:
    typical = _TYPICAL_BPM.get(score.tune_type or '', _TYPICAL_WITHOUT_TYPE_BPM)
    if str(score.meter) == '4/4' and score.tune_type in _FASTER_IN_QUARTERS:
      typical *= 2
  bpm = typical * (4 / 3) ** draw.uniform(-1, 1)
  return round(min(max(bpm, _RANGE_BPM[0]), _RANGE_BPM[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Setting:
  """Who plays which notes; fields as in `Arrangement`."""

  texture: str
  players: tuple[instruments.Instrument, ...]
  parts: tuple[tuple[scores.Note, ...], ...]
  semitones: int


def _draw_melody(draw: random.Random, *, score: scores.Score) -> _Setting:
  """A solo, a doubling in octaves, or a melody above a drone on the tonic."""
  [melody] = score.parts
  texture = draw.choice((SOLO, SOLO, SOLO, OCTAVES, DRONE))
  if texture == OCTAVES:
    doubled = _draw_octaves(draw, melody)
    if doubled:
      return doubled
  player, semitones = _draw_player(draw, melody)
  moved = _moved(melody, semitones)
  if texture == DRONE and score.key:
    tonic = (score.key.pitch_class + semitones) % 12
    held = _drone(score, tonic=tonic, below=min(note[2] for note in moved))
    return _Setting(
      texture=DRONE,
      players=(player, draw.choice(instruments.DRONES)),
      parts=(moved, held),
      semitones=semitones,
    )
  return _Setting(
    texture=SOLO, players=(player,), parts=(moved,), semitones=semitones
  )


def _draw_octaves(
  draw: random.Random, melody: tuple[scores.Note, ...]
) -> _Setting | None:
  """Two players an octave apart, or None if no pair reaches all notes."""
  for upper, lower in draw.sample(
    instruments.DOUBLES, len(instruments.DOUBLES)
  ):
    # Both must reach: the follower's range, an octave higher, is a bound too.
    shifts = _shifts(
      melody,
      lowest=max(upper.lowest, lower.lowest + 12),
      highest=min(upper.highest, lower.highest + 12),
    )
    if shifts:
      semitones = draw.choice(shifts)
      return _Setting(
        texture=OCTAVES,
        players=(upper, lower),
        parts=(_moved(melody, semitones), _moved(melody, semitones - 12)),
        semitones=semitones,
      )
  return None


def _draw_player(
  draw: random.Random, melody: tuple[scores.Note, ...]
) -> tuple[instruments.Instrument, int]:
  """A family, one of its instruments, and a transposition that it reaches."""
  families = list(instruments.FAMILIES.values())
  for family in draw.sample(families, len(families)):
    for player in draw.sample(family, len(family)):
      shifts = _shifts(melody, lowest=player.lowest, highest=player.highest)
      if shifts:
        return player, draw.choice(shifts)
  pitches = [pitch for _, _, pitch in melody]
  raise ValueError(
    f'No instrument reaches from {min(pitches)} to {max(pitches)}, moved by'
    ' octaves or not.'
  )


def _draw_choir(draw: random.Random, *, score: scores.Score) -> _Setting:
  """Four voices, moved together by what all four players can reach."""
  for players in draw.sample(instruments.CHOIRS, len(instruments.CHOIRS)):
    reachable = [
      _fitting(part, lowest=player.lowest, highest=player.highest)
      for part, player in zip(score.parts, players, strict=True)
    ]
    shifts = [s for s in range(-5, 7) if all(s in r for r in reachable)]
    if shifts:
      semitones = draw.choice(shifts)
      return _Setting(
        texture=CHORALE,
        players=players,
        parts=tuple(_moved(part, semitones) for part in score.parts),
        semitones=semitones,
      )
  raise ValueError('No four instruments reach all notes of its four voices.')


def _fitting(
  notes: Sequence[scores.Note], *, lowest: int, highest: int
) -> range:
  """Every transposition that keeps `notes` within a range."""
  pitches = [pitch for _, _, pitch in notes]
  return range(lowest - min(pitches), highest - max(pitches) + 1)


def _shifts(
  notes: Sequence[scores.Note], *, lowest: int, highest: int
) -> list[int]:
  """For each of the twelve keys that fits, the nearest transposition."""
  nearest: dict[int, int] = {}
  for shift in _fitting(notes, lowest=lowest, highest=highest):
    key = shift % 12
    if key not in nearest or abs(shift) < abs(nearest[key]):
      nearest[key] = shift
  return sorted(nearest.values())


def _moved(
  notes: Sequence[scores.Note], semitones: int
) -> tuple[scores.Note, ...]:
  return tuple((on, length, pitch + semitones) for on, length, pitch in notes)


def _drone(
  score: scores.Score, *, tonic: int, below: int
) -> tuple[scores.Note, ...]:
  """The tonic, held below the melody and struck anew every four bars."""
  # Within the reach of every instrument in DRONES.
  pitch = 48 + tonic
  while pitch + 12 <= min(below, 62):
    pitch += 12
  notes = []
  onset = Fraction(0)
  following = score.upbeat or 4 * score.meter.bar_length
  while onset < score.length:
    end = min(following, score.length)
    notes.append((onset, end - onset, pitch))
    onset, following = end, end + 4 * score.meter.bar_length
  return tuple(notes)
