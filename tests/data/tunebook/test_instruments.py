# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.data.tunebook import instruments


def test_names_and_programs_are_unique():
  every = [i for family in instruments.FAMILIES.values() for i in family]
  assert len({i.name for i in every}) == len(every)
  assert len({i.program for i in every}) == len(every)


def test_an_instrument_knows_its_family_and_has_a_range():
  for family, members in instruments.FAMILIES.items():
    for member in members:
      assert member.family == family
      assert member.highest - member.lowest >= 21
      assert 0 <= member.program < 112


def test_drones_sustain_and_reach_every_tonic():
  for drone in instruments.DRONES:
    assert drone.sustains
    assert drone.lowest <= 48 and drone.highest >= 62


def test_a_choir_has_four_players():
  assert {len(choir) for choir in instruments.CHOIRS} == {4}
