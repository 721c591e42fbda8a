# SPDX-License-Identifier: Apache-2.0
"""How well MuLan's joint space puts texts beside the music they describe.

Retrieval both ways, between clips and one kind of their captions at a time, and
zero-shot tagging: of the trained space, of the same towers untrained, of a
blind order, and of the space as its codes keep it (audio alone through the
codebooks, which is what the stages are trained on; text too, which is what they
are given to generate). MuLan (Huang et al., 2022), sections 4.2 and 4.3.

Clips whose captions state the same facts are each other's right answers.
Intervals are over tunes, with the clips that compete held fixed.

Shapes: audio and texts [clips, embed], tags [tags, embed].
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import (
  Callable,
  Hashable,
  Mapping,
  Sequence,
)
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from musiclm_jax.evaluation import (
  bootstrap,
  code_agreement,
  retrieval,
  zero_shot,
)
from musiclm_jax.evaluation.bootstrap import Estimate

TEXT_TO_AUDIO = 'text to audio'
AUDIO_TO_TEXT = 'audio to text'

CUTOFFS = (1, 10)

# A tag that fewer clips have, or lack, gives an area that says little. Ours.
MIN_CLIPS_OF_A_TAG = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionKind:
  """One of the captions that every clip has.

  Attributes:
    name: Of the kind.
    place: Among a clip's captions.
    facts: What it states; if left out, captions are equal if their texts are.
  """

  name: str
  place: int = 0
  facts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutClip:
  """What is known of a clip.

  Attributes:
    tune: What intervals are over.
    captions: One for each kind.
    keys: One for each kind; equal where the captions say the same.
    tags: By the fact that has them: {'instruments': {'harp'}}.
  """

  tune: str
  captions: tuple[str, ...]
  keys: tuple[Hashable, ...]
  tags: Mapping[str, frozenset[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
  """One way to embed all clips, captions and tags.

  Attributes:
    name: 'trained', 'untrained', 'through codes'.
    audio: Of the clips.
    texts: Of the captions, for each kind.
    tags: Of the tags to test, by fact.
  """

  name: str
  audio: Float[np.ndarray, 'clips embed']
  texts: tuple[Float[np.ndarray, 'clips embed'], ...]
  tags: Mapping[str, Float[np.ndarray, 'tags embed']]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalFigures:
  """How one system retrieves.

  Attributes:
    system: Its name.
    direction: `TEXT_TO_AUDIO` or `AUDIO_TO_TEXT`.
    served: Share of the queries with a right answer among the first k, by k.
    median_rank: Of the first right answer.
    mean_average_precision: Over the queries.
  """

  system: str
  direction: str
  served: Mapping[int, Estimate]
  median_rank: Estimate
  mean_average_precision: Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chance:
  """What a blind order gives; fields as in `RetrievalFigures`."""

  served: Mapping[int, float]
  median_rank: float
  mean_average_precision: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class KindFigures:
  """One kind of captions, or all of them as queries of their own.

  Attributes:
    name: Of the kind, or 'all'.
    answers: Mean number of right answers of a query.
    chance: Of a blind order.
    retrieval: Of every system, both ways.
  """

  name: str
  answers: float
  chance: Chance
  retrieval: tuple[RetrievalFigures, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagFigures:
  """Zero-shot tagging by one system.

  Attributes:
    fact: Where the tags are from: 'instruments'.
    system: Its name.
    mean_area: Over the tags.
    areas: Of each tag.
  """

  fact: str
  system: str
  mean_area: Estimate
  areas: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MulanReport:
  """All that was found.

  Attributes:
    num_clips: Clips heard.
    num_tunes: Of how many tunes.
    kinds: All kinds of captions together, then each.
    tags: By fact and system.
    levels: Of the codebooks, coarsest first; empty without codebooks.
    num_windows: That the figures of the codebooks are over.
  """

  num_clips: int
  num_tunes: int
  kinds: tuple[KindFigures, ...]
  tags: tuple[TagFigures, ...]
  levels: tuple[code_agreement.LevelFigures, ...]
  num_windows: int


def held_out_clip(
  *,
  tune: str,
  captions: Sequence[str],
  facts: Mapping[str, Any],
  kinds: Sequence[CaptionKind],
  tag_facts: Sequence[str],
) -> HeldOutClip | None:
  """What a corpus says of a clip; None if a caption or a fact is missing."""
  if max(kind.place for kind in kinds) >= len(captions):
    return None
  if any(name not in facts for kind in kinds for name in kind.facts):
    return None
  return HeldOutClip(
    tune=tune,
    captions=tuple(captions[kind.place] for kind in kinds),
    keys=tuple(
      json.dumps([facts[name] for name in kind.facts])
      if kind.facts
      else ' '.join(captions[kind.place].lower().split())
      for kind in kinds
    ),
    tags={fact: frozenset(facts.get(fact) or ()) for fact in tag_facts},
  )


def tags_to_test(
  clips: Sequence[HeldOutClip],
) -> dict[str, tuple[tuple[str, ...], Bool[np.ndarray, 'clips tags']]]:
  """The tags that enough clips have and lack, by fact, and who has them."""
  found = {
    fact: zero_shot.tags_of(
      [clip.tags[fact] for clip in clips], min_clips=MIN_CLIPS_OF_A_TAG
    )
    for fact in clips[0].tags
  }
  return {fact: tags for fact, tags in found.items() if tags[0]}


def evaluate(
  systems: Sequence[System],
  clips: Sequence[HeldOutClip],
  *,
  kinds: Sequence[CaptionKind],
  codes: code_agreement.Codes | None = None,
) -> MulanReport:
  """Compares systems over the same clips.

  Args:
    systems: What is compared; rows as in `clips`.
    clips: What is known of them.
    kinds: Of their captions.
    codes: If there are codebooks.
  """
  tunes = [clip.tune for clip in clips]
  relevant = [
    retrieval.equal([clip.keys[place] for clip in clips])
    for place in range(len(kinds))
  ]
  names = ['all', *(kind.name for kind in kinds)]
  groups = [list(range(len(kinds))), *([n] for n in range(len(kinds)))]
  if len(kinds) == 1:
    names, groups = names[1:], groups[1:]
  return MulanReport(
    num_clips=len(clips),
    num_tunes=len(set(tunes)),
    kinds=tuple(
      _kind_figures(name, systems, relevant, places, tunes=tunes)
      for name, places in zip(names, groups)
    ),
    tags=tuple(_tag_figures(systems, clips, tunes=tunes)),
    levels=() if codes is None else code_agreement.measure(codes),
    num_windows=0 if codes is None else len(codes.windows),
  )


def _kind_figures(
  name: str,
  systems: Sequence[System],
  relevant: Sequence[retrieval.Relevant],
  places: Sequence[int],
  *,
  tunes: Sequence[str],
) -> KindFigures:
  """Queries of the kinds at `places`, each among the items of its own kind."""
  answers = np.concatenate([relevant[place] for place in places])
  figures = []
  for system in systems:
    for direction in (TEXT_TO_AUDIO, AUDIO_TO_TEXT):
      rankings = []
      for place in places:
        scores = system.texts[place] @ system.audio.T
        if direction == AUDIO_TO_TEXT:
          scores = scores.T
        # Equality of captions is symmetric: the right answers serve both ways.
        rankings.append(retrieval.rank(scores, relevant=relevant[place]))
      figures.append(
        _retrieval_figures(
          system.name, direction, rankings, tunes=[*tunes] * len(places)
        )
      )
  return KindFigures(
    name=name,
    answers=float(answers.sum(axis=1).mean()),
    chance=Chance(
      served={
        k: float(retrieval.chance_served(answers, k).mean()) for k in CUTOFFS
      },
      median_rank=float(retrieval.chance_median_rank(answers)),
      mean_average_precision=float(
        retrieval.chance_average_precision(answers).mean()
      ),
    ),
    retrieval=tuple(figures),
  )


def _retrieval_figures(
  system: str,
  direction: str,
  rankings: Sequence[retrieval.Ranking],
  *,
  tunes: Sequence[str],
) -> RetrievalFigures:
  ranks = np.concatenate([ranking.first_rank for ranking in rankings])
  precision = np.concatenate(
    [ranking.average_precision for ranking in rankings]
  )

  def estimate(figure: Callable[[Any], Any]) -> Estimate:
    return bootstrap.estimate(lambda rows: float(figure(rows)), groups=tunes)

  return RetrievalFigures(
    system=system,
    direction=direction,
    served={
      k: estimate(lambda rows, k=k: np.mean(ranks[rows] <= k)) for k in CUTOFFS
    },
    median_rank=estimate(lambda rows: np.median(ranks[rows])),
    mean_average_precision=estimate(lambda rows: np.mean(precision[rows])),
  )


def _tag_figures(
  systems: Sequence[System],
  clips: Sequence[HeldOutClip],
  *,
  tunes: Sequence[str],
) -> list[TagFigures]:
  figures = []
  for fact, (names, positive) in tags_to_test(clips).items():
    for system in systems:
      scores = system.audio @ system.tags[fact].T
      areas = zero_shot.areas(scores, positive)
      figures.append(
        TagFigures(
          fact=fact,
          system=system.name,
          mean_area=bootstrap.estimate(
            lambda rows, scores=scores, positive=positive: zero_shot.mean_area(
              scores[rows], positive[rows]
            ),
            groups=tunes,
            num_resamples=500,
          ),
          areas=dict(zip(names, areas.tolist())),
        )
      )
  return figures
