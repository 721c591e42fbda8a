# SPDX-License-Identifier: Apache-2.0
import collections

import pytest

from musiclm_jax.data.tunebook import arrangement, instruments, scores
from tests.data.tunebook import pieces

JIG = scores.read_abc(pieces.JIG)


def arranged(rendering: int, *, seed: int = 0) -> arrangement.Arrangement:
  return arrangement.arrange(
    JIG, tune_id='made/up/1', rendering=rendering, seed=seed
  )


MANY = [arranged(rendering) for rendering in range(211)]


def test_a_rendering_depends_on_tune_number_and_seed_alone():
  assert arranged(3) == arranged(3)
  assert arranged(3) != arranged(4)
  assert arranged(3) != arranged(3, seed=1)


def test_every_family_texture_and_dynamic_occurs():
  families = {player.family for a in MANY for player in a.players}
  assert families == set(instruments.FAMILIES)
  textures = {a.texture for a in MANY}
  assert textures == {
    arrangement.SOLO,
    arrangement.OCTAVES,
    arrangement.DRONE,
  }
  assert {a.dynamics for a in MANY} == set(arrangement.DYNAMICS)


def test_every_part_is_within_reach_of_its_player():
  for a in MANY:
    for player, part in zip(a.players, a.parts, strict=True):
      pitches = [pitch for _, _, pitch in part]
      assert player.lowest <= min(pitches)
      assert max(pitches) <= player.highest


def test_the_key_that_sounds_is_the_key_of_the_source_moved():
  for a in MANY:
    moved = {pitch - 64 for _, _, pitch in a.parts[0][:1]}
    assert moved == {a.semitones}
    assert a.key.pitch_class == (4 + a.semitones) % 12
    assert a.key.mode == 'dorian'


def test_tempi_vary_around_that_of_the_source():
  tempi = [a.bpm for a in MANY]
  assert min(tempi) >= 110 * 3 / 4 - 1 and max(tempi) <= 110 * 4 / 3 + 1
  assert max(tempi) - min(tempi) > 40


def test_the_music_lasts_45_seconds_and_not_once_more():
  for a in MANY:
    seconds = a.length / a.meter.beat_length * 60 / a.bpm
    assert (a.times - 1) * seconds < 45 <= a.times * seconds


def test_octaves_are_the_melody_an_octave_lower():
  a = next(a for a in MANY if a.texture == arrangement.OCTAVES)
  upper, lower = a.parts
  assert lower == tuple((on, length, p - 12) for on, length, p in upper)


def test_a_drone_holds_the_tonic_below_the_melody_throughout():
  drones = [a for a in MANY if a.texture == arrangement.DRONE]
  for a in drones:
    melody, drone = a.parts
    assert {p % 12 for _, _, p in drone} == {a.key.pitch_class}
    assert drone[0][0] == 0
    assert sum(length for _, length, _ in drone) == a.length
    assert a.players[1].sustains
  below = [
    max(n[2] for n in a.parts[1]) <= min(n[2] for n in a.parts[0])
    for a in drones
    if min(n[2] for n in a.parts[0]) >= 59
  ]
  assert below and all(below)


def test_a_reel_in_quarter_beats_is_twice_as_fast_as_in_half_beats():
  means = {}
  for meter in ('C', 'C|'):
    reel = pieces.REEL.format(number=1, title='T', bar='c2AF DFAc')
    score = scores.read_abc(reel.replace('M:C|', f'M:{meter}'))
    tempi = [
      arrangement.arrange(score, tune_id='t', rendering=n, seed=0).bpm
      for n in range(17)
    ]
    means[meter] = sum(tempi) / len(tempi)
  assert means['C'] == pytest.approx(2 * means['C|'], rel=0.05)


def test_a_chorale_is_played_by_four_who_can(tmp_path):
  path = tmp_path / 'bwv1.xml'
  path.write_text(pieces.chorale())
  score = scores.read_chorale(path)
  choirs = collections.Counter()
  for rendering in range(101):
    a = arrangement.arrange(score, tune_id='b', rendering=rendering, seed=0)
    assert a.texture == arrangement.CHORALE
    assert len(a.players) == len(a.parts) == 4
    for player, part in zip(a.players, a.parts, strict=True):
      assert player.lowest <= min(n[2] for n in part)
      assert max(n[2] for n in part) <= player.highest
    choirs[tuple(player.name for player in a.players)] += 1
  assert len(choirs) > 8


def test_a_melody_that_nobody_reaches_is_an_error():
  wide = pieces.JIG.replace('EFG B2c', "E,,,,FG B2c'''''")
  with pytest.raises(ValueError, match='No instrument reaches'):
    arrangement.arrange(scores.read_abc(wide), tune_id='t', rendering=0, seed=0)
