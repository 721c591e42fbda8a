# SPDX-License-Identifier: Apache-2.0
"""Candidate sentences for captions: what a tunebook clip can be said to be.

Made from the same lists as the renderings, in the words of their captions. A
vocabulary for other music is a text file of the user's own.
"""

from __future__ import annotations

import itertools

from musiclm_jax.data.tunebook import arrangement, captions, instruments


def sentences() -> tuple[str, ...]:
  """Every sentence, in a fixed order."""
  return tuple(
    text[0].upper() + text[1:]
    for text in itertools.chain(_sounds(), _drones(), _tunes())
  )


def _sounds() -> list[str]:
  """Who plays, how loudly and how fast."""
  players = [f'solo {name}' for name in instruments.INSTRUMENTS]
  players += [
    f'{upper.name} and {lower.name} in octaves'
    for upper, lower in instruments.DOUBLES
  ]
  return [
    f'{who}, playing {adverbs[0]} at a {tempo} tempo.'
    for who in players
    for adverbs in captions.ADVERBS.values()
    for _, tempo in captions.TEMPO_WORDS
  ]


def _drones() -> list[str]:
  return [
    f'{name} over a drone held by {captions.with_article(drone.name)}.'
    for name in instruments.INSTRUMENTS
    for drone in instruments.DRONES
    if name != drone.name
  ]


def _tunes() -> list[str]:
  """Which sort of tune, how fast, on what."""
  return [
    f'{captions.with_article(tune_type)} at a {tempo} tempo: {family}.'
    for tune_type in arrangement.TUNE_TYPES
    for _, tempo in captions.TEMPO_WORDS
    for family in instruments.FAMILIES
  ]
