# SPDX-License-Identifier: Apache-2.0
"""One rendering of one tune: waveform, captions and facts.

A pure function of (tune, rendering, seed): the same bytes in every process.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from musiclm_jax.data import sources
from musiclm_jax.data.tunebook import arrangement as arrangements
from musiclm_jax.data.tunebook import captions, catalogue, midi, render

# A hundredth of a MIDI tick at the fastest tempo.
_SECONDS_DECIMALS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """All of a rendering but its sound.

  Attributes:
    midi_file: What is rendered.
    captions: Four of them.
    facts: As JSON would hold them; None where the source is silent.
  """

  midi_file: bytes
  captions: tuple[str, ...]
  facts: dict[str, Any]


def describe(tune: catalogue.Tune, *, rendering: int, seed: int) -> Description:
  """Arranges a tune and says what it will sound like.

  Args:
    tune: With its score.
    rendering: Which of its renderings, from 0.
    seed: Of the whole data set.
  """
  arranged = arrangements.arrange(
    tune.score, tune_id=tune.id, rendering=rendering, seed=seed
  )
  performance = midi.perform(arranged)
  facts = _facts(tune, arranged, performance)
  draw = arrangements.generator('captions', tune.id, rendering, seed)
  return Description(
    midi_file=midi.midi_file(
      performance, programs=[player.program for player in arranged.players]
    ),
    captions=captions.write_captions(facts, draw=draw),
    facts=facts,
  )


def render_tune(
  tune: catalogue.Tune, *, rendering: int, seed: int
) -> sources.Clip:
  """Renders what `describe` says."""
  described = describe(tune, rendering=rendering, seed=seed)
  return sources.Clip(
    waveform=render.render(
      described.midi_file, dynamics=described.facts['dynamics']
    ),
    sample_rate_hz=render.SAMPLE_RATE_HZ,
    captions=described.captions,
    facts=described.facts,
  )


def _facts(
  tune: catalogue.Tune,
  arranged: arrangements.Arrangement,
  performance: midi.Performance,
) -> dict[str, Any]:
  """What is true of the rendering; None where the source is silent."""
  names = [player.name for player in arranged.players]
  families = [player.family for player in arranged.players]
  score = tune.score
  return {
    'title': tune.titles[0],
    'collection': tune.id.split('/')[0],
    'composer': score.composer,
    'tune_type': score.tune_type,
    'meter': str(score.meter),
    'key': arranged.key and arranged.key.tonic,
    'mode': arranged.key and arranged.key.mode,
    'tempo_bpm': arranged.bpm,
    'tempo_beat': score.meter.beat_name,
    'tempo_word': captions.tempo_word(arranged.bpm),
    'texture': arranged.texture,
    'num_parts': len(arranged.parts),
    'players': names,
    'instruments': list(dict.fromkeys(names)),
    'families': list(dict.fromkeys(families)),
    'dynamics': arranged.dynamics,
    'level_dbfs': render.LEVEL_DBFS[arranged.dynamics],
    'semitones': arranged.semitones,
    'times': arranged.times,
    'notes': _notes(performance),
  }


def _notes(performance: midi.Performance) -> dict[str, list]:
  """The notes as columns: onset and duration in seconds, pitch, part."""

  def seconds(ticks: int) -> float:
    return round(performance.seconds(ticks), _SECONDS_DECIMALS)

  notes = performance.notes
  return {
    'onset_seconds': [seconds(note.onset_ticks) for note in notes],
    'duration_seconds': [
      seconds(note.end_ticks - note.onset_ticks) for note in notes
    ],
    'pitch': [note.pitch for note in notes],
    'part': [note.part for note in notes],
  }
