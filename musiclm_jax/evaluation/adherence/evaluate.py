# SPDX-License-Identifier: Apache-2.0
"""All tools over some music, as far as its prompts state facts.

A fact is heard only where two prompts or more state it. Facts, by name:
`families` and `absent_families` of instruments, `families_in_order` (first, then),
`tempo_bpm`, `meter` ('6/8', with a tempo), and `notes`: onsets and durations in seconds of the
clip, and pitches.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from musiclm_jax.audio import loudness, resample
from musiclm_jax.evaluation import bootstrap
from musiclm_jax.evaluation import prompts as prompt_sets
from musiclm_jax.evaluation.adherence import beats, figures, instruments, notes
from musiclm_jax.evaluation.embedders.base import Classifier
from musiclm_jax.evaluation.prompts import Prompt

FACTS = {
  instruments: ('families', 'absent_families', 'families_in_order'),
  beats: ('tempo_bpm', 'meter'),
  notes: ('notes',),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
  """What the tools made of one clip; None where no prompt asked.

  Attributes:
    halves: Scores of families in its first and its second half.
    beats: Tempo and meter.
    notes: Its transcription.
    is_silent: Whether there was anything to hear.
  """

  halves: tuple[instruments.Scores, instruments.Scores] | None
  beats: beats.Beats | None
  notes: notes.Notes | None
  is_silent: bool

  @property
  def families(self) -> instruments.Scores:
    return np.mean(self.halves, axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdherenceReport:
  """All that was found.

  Attributes:
    figures: One for each kind of agreement.
    families: Of each family that can be heard, by name: how often it is heard
      where it is stated, and where only others are; intervals are over prompts.
    inaudible: How many prompts state each family that cannot.
    num_clips: Clips heard.
    num_silent: Of these, how many are silent.
  """

  figures: tuple[figures.Figure, ...]
  families: Mapping[str, tuple[bootstrap.Estimate, bootstrap.Estimate]]
  inaudible: Mapping[str, int]
  num_clips: int
  num_silent: int


class Ears:
  """The tools that some prompts call for, loaded once."""

  def __init__(
    self,
    prompts: Sequence[Prompt],
    *,
    load_classifier: Callable[[], Classifier],
    load_transcriber: Callable[[], Any] = notes.Transcriber,
  ):
    for prompt in prompts:
      _check(prompt)
    stated = {
      tool: any(len(prompt_sets.having(prompts, fact)) > 1 for fact in facts)
      for tool, facts in FACTS.items()
    }
    if not any(stated.values()):
      raise ValueError(
        'No fact that can be heard is stated by two prompts; give "facts" with'
        f' {", ".join(fact for facts in FACTS.values() for fact in facts)}.'
      )
    self._classifier = load_classifier() if stated[instruments] else None
    self._transcriber = load_transcriber() if stated[notes] else None
    self._hears_beats = stated[beats]

  def listen(
    self, waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
  ) -> Heard:
    """What they make of one clip."""
    halves = transcript = rhythm = None
    if self._classifier is not None:
      rate_hz = self._classifier.sample_rate_hz
      halves = instruments.listen(
        resample.resample(waveform, from_hz=sample_rate_hz, to_hz=rate_hz),
        classifier=self._classifier,
      )
    if self._transcriber is not None:
      transcript = self._transcriber(waveform, sample_rate_hz=sample_rate_hz)
    if self._hears_beats:
      rhythm = beats.listen(waveform, sample_rate_hz=sample_rate_hz)
    return Heard(
      halves=halves,
      beats=rhythm,
      notes=transcript,
      is_silent=loudness.is_silent(waveform),
    )


def evaluate(
  prompts: Sequence[Prompt], heard: Iterable[Heard]
) -> AdherenceReport:
  """Compares what was heard with what was asked for.

  Args:
    prompts: Of each clip.
    heard: By `Ears` that were made for these prompts.
  """
  clips = list(heard)
  facts = [prompt.facts for prompt in prompts]
  # With facts, since pieces of a corpus may share a caption, or have none.
  asked = [
    json.dumps((prompt.text, prompt.facts), default=np.ndarray.tolist)
    for prompt in prompts
  ]
  found = [
    figures.measure(
      name,
      score,
      clips=_stating(prompts, fact),
      prompts=asked,
    )
    for name, fact, score in _scores(clips, facts)
  ]
  inaudible: dict[str, int] = {}
  for known in facts:
    for family in set(known.get('families', ())) - set(instruments.FAMILIES):
      inaudible[family] = inaudible.get(family, 0) + 1
  return AdherenceReport(
    figures=tuple(figure for figure in found if figure is not None),
    families=_by_family(clips, prompts, asked=asked),
    inaudible=inaudible,
    num_clips=len(clips),
    num_silent=sum(clip.is_silent for clip in clips),
  )


def _check(prompt: Prompt) -> None:
  """Raises if a fact is not written as it is read."""
  kinds = {fact: (list, '["brass"]') for fact in FACTS[instruments]} | {
    'families_in_order': (list, '["brass", "woodwind"]'),
    'tempo_bpm': (int | float, '96'),
    'meter': (str, '"6/8"'),
    'notes': (Mapping, '{"onset_seconds": [0.5], …}'),
  }
  for fact, (kind, example) in kinds.items():
    value = prompt.facts.get(fact)
    is_wrong = not isinstance(value, kind)
    if fact == 'meter' and not is_wrong:
      is_wrong = not re.fullmatch(r'[1-9]\d*/\d+', value)
    if fact == 'tempo_bpm' and not is_wrong:
      is_wrong = not value > 0
    if fact == 'families_in_order' and not is_wrong:
      is_wrong = len(value) != 2
    if value is not None and is_wrong:
      raise ValueError(
        f'The prompt {prompt.text!r} has the {fact} {value!r}; write it like'
        f' {example}.'
      )


_Score = Callable[[int, int], float]


def _scores(
  clips: Sequence[Heard], facts: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, _Score]]:
  """(name, fact, score of one clip under the prompt of another)."""
  wanted = {
    n: notes.Notes.of_facts(known['notes'])
    for n, known in enumerate(facts)
    if known.get('notes')
  }

  def tempo(octaves: bool) -> _Score:
    return lambda i, j: beats.is_tempo(
      clips[i].beats.tempo_bpm, float(facts[j]['tempo_bpm']), octaves=octaves
    )

  def meter(agrees: Callable[..., float]) -> _Score:
    return lambda i, j: agrees(
      clips[i].beats,
      facts[j]['meter'],
      tempo_bpm=float(facts[j]['tempo_bpm']),
    )

  return [
    (
      'instrument families',
      'families',
      lambda i, j: instruments.recall(clips[i].families, facts[j]['families']),
    ),
    (
      'absent families',
      'absent_families',
      lambda i, j: instruments.avoided(
        clips[i].families,
        facts[j].get('families', ()),
        facts[j]['absent_families'],
      ),
    ),
    (
      'families in order',
      'families_in_order',
      lambda i, j: instruments.in_order(
        *clips[i].halves, facts[j]['families_in_order']
      ),
    ),
    ('tempo', 'tempo_bpm', tempo(octaves=False)),
    ('tempo or its octave', 'tempo_bpm', tempo(octaves=True)),
    ('beats in two or three', 'meter', meter(beats.is_division)),
    ('bars of three beats or not', 'meter', meter(beats.is_bar)),
    (
      'notes, onset F1',
      'notes',
      lambda i, j: notes.onset_f1(wanted[j], clips[i].notes),
    ),
    (
      'pitch classes, cosine',
      'notes',
      lambda i, j: notes.chroma_cosine(wanted[j], clips[i].notes),
    ),
  ]


def _stating(prompts: Sequence[Prompt], fact: str) -> list[int]:
  """Numbers of prompts that state a fact which can be heard."""
  found = prompt_sets.having(prompts, fact)
  if fact == 'meter':  # It is asked at the stated tempo.
    return [n for n in found if prompts[n].facts.get('tempo_bpm')]
  if fact not in FACTS[instruments]:
    return found
  wanted = 2 if fact == 'families_in_order' else 1
  return [
    n
    for n in found
    if len(instruments.audible(prompts[n].facts[fact])) >= wanted
  ]


def _by_family(
  clips: Sequence[Heard], prompts: Sequence[Prompt], *, asked: Sequence[str]
) -> dict[str, tuple[bootstrap.Estimate, bootstrap.Estimate]]:
  """How often each is heard where it is stated, and where only others are."""
  found = {}
  stating = _stating(prompts, 'families')
  for family in instruments.FAMILIES:
    is_heard: dict[bool, dict[int, bool]] = {True: {}, False: {}}
    for n in stating:
      stated = instruments.audible(prompts[n].facts['families'])
      likeliest = instruments.heard(clips[n].families, number=len(stated))
      is_heard[family in stated][n] = family in likeliest
    if all(is_heard.values()):
      own, others = (_share(side, asked=asked) for side in is_heard.values())
      found[family] = own, others
  return found


def _share(
  is_heard: Mapping[int, bool], *, asked: Sequence[str]
) -> bootstrap.Estimate:
  """Of clips, by their number; samples of one prompt are drawn together."""
  values = np.array([*is_heard.values()], np.float64)
  return bootstrap.estimate(
    lambda rows: float(values[rows].mean()), groups=[asked[n] for n in is_heard]
  )
