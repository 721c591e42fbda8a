# SPDX-License-Identifier: Apache-2.0
"""What semantic tokens mean: probes, tunes told apart, and codes in use.

Every view of `semantic_views` is asked the same: what a linear classifier reads
from its mean over time, and whether a tune is recognised when another
instrument plays it at another tempo.

Shapes: waveform [samples], frames [frames, dim] or, of tokens, [frames]; pooled
[rows, dim].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from musiclm_jax.evaluation import abx, codebook_usage, linear_probe
from musiclm_jax.evaluation.bootstrap import Estimate, Rows, estimate
from musiclm_jax.evaluation.codebook_usage import CodebookFigures
from musiclm_jax.evaluation.semantic_views import (
  BASELINES,
  TOKENS,
  View,
  frames_of,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
  """A stretch of a piece and what is known of the piece.

  Attributes:
    waveform: All of one length.
    tune: No tune is both fitted to and held out.
    classes: By task; None where the source does not say.
    is_held_out: Else it is fitted to.
  """

  waveform: Float[np.ndarray, ' samples']
  tune: str
  classes: Mapping[str, str | None]
  is_held_out: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeFigures:
  """What a linear probe reads from one view.

  Attributes:
    task: What is to be told.
    view: From what.
    num_classes: Blind guessing gets one in so many.
    num_rows: Held-out crops.
    accuracy: Balanced over classes; interval over tunes.
    gains: Its accuracy less that of each baseline, on the same crops.
  """

  task: str
  view: str
  num_classes: int
  num_rows: int
  accuracy: Estimate
  gains: Mapping[str, Estimate]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoverFigures:
  """How well a tune is recognised in one view.

  Attributes:
    view: Which.
    score: ABX: share of the other tunes that are further away.
    same: Distance of the two renderings of a tune.
    different: Distance of a rendering to those of other tunes.
  """

  view: str
  score: Estimate
  same: Estimate
  different: Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticReport:
  """All that was found.

  Attributes:
    probes: By task and view.
    covers: By view.
    codebook: Use of the codes over the held-out crops.
    repeated_share: Frames whose code is that of the frame before.
    num_frames: That the use is over.
    num_tunes: Held-out tunes that were probed.
  """

  probes: tuple[ProbeFigures, ...]
  covers: tuple[CoverFigures, ...]
  codebook: CodebookFigures
  repeated_share: float
  num_frames: int
  num_tunes: int


def evaluate(
  views: Sequence[View],
  *,
  crops: Iterable[Crop],
  covers: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
  crops_rate_hz: int,
  covers_rate_hz: int,
  codebook_size: int,
) -> SemanticReport:
  """Asks every view the same.

  Args:
    views: The baselines among them.
    crops: Of pieces that probes are fitted to, and of others.
    covers: Two renderings of each tune, in groups: of one group are the tunes
      that one pair of instruments plays.
    crops_rate_hz: Of the crops.
    covers_rate_hz: Of the covers.
    codebook_size: Of the view `TOKENS`.
  """
  pooled = {view.name: [] for view in views}
  known, codes = [], []
  for crop in crops:
    known.append(dataclasses.replace(crop, waveform=crop.waveform[:0]))
    frames = frames_of(views, crop.waveform, sample_rate_hz=crops_rate_hz)
    for view in views:
      pooled[view.name].append(view.pool(frames[view.name]))
    if crop.is_held_out:
      codes.append(frames[TOKENS])
  if not codes:
    raise ValueError('There are no held-out crops to evaluate on.')
  points = {name: np.stack(rows) for name, rows in pooled.items()}
  counts = np.bincount(np.concatenate(codes), minlength=codebook_size)
  return SemanticReport(
    probes=tuple(_probes(points, known)),
    covers=_cover_figures(views, covers, sample_rate_hz=covers_rate_hz),
    codebook=codebook_usage.measure(counts),
    repeated_share=float(
      np.mean(np.concatenate([row[1:] == row[:-1] for row in codes]))
    ),
    num_frames=int(counts.sum()),
    num_tunes=len({crop.tune for crop in known if crop.is_held_out}),
  )


def _probes(
  pooled: Mapping[str, Float[np.ndarray, 'rows dim']], known: Sequence[Crop]
) -> Iterable[ProbeFigures]:
  tasks = dict.fromkeys(task for crop in known for task in crop.classes)
  for task in tasks:
    labels = np.array([crop.classes[task] or '' for crop in known])
    held_out = np.array([crop.is_held_out for crop in known])
    train = np.flatnonzero(~held_out & (labels != ''))
    # A class that was never heard cannot be told.
    heard = np.isin(labels, labels[train])
    test = np.flatnonzero(held_out & (labels != '') & heard)
    tunes = [crop.tune for crop in known]
    correct = {
      name: np.array(
        linear_probe.predict(
          points[train],
          labels[train].tolist(),
          groups=[tunes[row] for row in train],
          test=points[test],
        )
      )
      == labels[test]
      for name, points in pooled.items()
    }
    yield from _probe_figures(
      task,
      correct,
      labels=labels[test],
      num_classes=len(set(labels[train])),
      tunes=[tunes[row] for row in test],
    )


def _probe_figures(
  task: str,
  correct: Mapping[str, np.ndarray],
  *,
  labels: np.ndarray,
  num_classes: int,
  tunes: Sequence[str],
) -> Iterable[ProbeFigures]:
  # Numbers: thousands of resamples sort them.
  _, classes = np.unique(labels, return_inverse=True)

  def accuracy(name: str, rows: Rows) -> float:
    return linear_probe.balanced_accuracy(
      correct[name][rows], labels=classes[rows]
    )

  def gain(name: str, baseline: str, rows: Rows) -> float:
    return accuracy(name, rows) - accuracy(baseline, rows)

  for name in correct:
    yield ProbeFigures(
      task=task,
      view=name,
      num_classes=num_classes,
      num_rows=len(labels),
      accuracy=estimate(functools.partial(accuracy, name), groups=tunes),
      gains={
        baseline: estimate(
          functools.partial(gain, name, baseline), groups=tunes
        )
        for baseline in BASELINES
        if baseline != name and baseline in correct
      },
    )


def _cover_figures(
  views: Sequence[View],
  groups: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
  *,
  sample_rate_hz: int,
) -> tuple[CoverFigures, ...]:
  heard = [
    [
      [frames_of(views, row, sample_rate_hz=sample_rate_hz) for row in pair]
      for pair in group
    ]
    for group in groups
  ]
  return tuple(
    _view_covers(
      view,
      [
        [[pair[side][view.name] for pair in group] for side in range(2)]
        for group in heard
      ],
    )
    for view in views
    if groups
  )


def _view_covers(
  view: View, groups: Sequence[Sequence[Sequence[np.ndarray]]]
) -> CoverFigures:
  """Of the frames in one view: by group, first or second rendering, tune."""
  scores, same, different = [], [], []
  for sides in groups:
    # About their mean, else all cosines are near 1.
    if view.distance is abx.cosine_distance:
      sides = _standardised(sides)
    found, distances = abx.scores(*sides, frame_distance=view.distance)
    others = ~np.eye(len(found), dtype=bool)
    scores.extend(found)
    same.extend(np.diagonal(distances))
    different.extend((distances * others).sum(1) / others.sum(1))
  return CoverFigures(
    view=view.name,
    score=_mean(scores),
    same=_mean(same),
    different=_mean(different),
  )


def _standardised(
  sides: Sequence[Sequence[np.ndarray]],
) -> list[list[np.ndarray]]:
  """Each dimension to mean 0 and variance 1 over all frames."""
  everything = np.concatenate([frames for side in sides for frames in side])
  mean, deviation = everything.mean(0), everything.std(0) + 1e-6
  return [[(frames - mean) / deviation for frames in side] for side in sides]


def _mean(values: Sequence[float]) -> Estimate:
  array = np.asarray(values, np.float64)
  return estimate(
    lambda rows: float(array[rows].mean()), groups=range(array.size)
  )
