# SPDX-License-Identifier: Apache-2.0
"""A report on semantic tokens as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from musiclm_jax.evaluation import report as reports
from musiclm_jax.evaluation import semantic, semantic_views

NAME = 'semantic'  # Of both files.


def write(
  report: semantic.SemanticReport, *, directory: pathlib.Path, about: str
) -> None:
  """Writes `semantic.json` and `semantic.md`.

  Args:
    report: What was found.
    directory: Where to; made if absent.
    about: A line that says which model and which clips.
  """
  reports.write(
    directory,
    name=NAME,
    fields={'about': about, **dataclasses.asdict(report)},
    text=to_markdown(report, about=about),
  )


def to_markdown(report: semantic.SemanticReport, *, about: str) -> str:
  """Probes, covers, and the codebook."""
  parts = [
    about,
    f'{report.num_tunes} held-out tunes. In brackets: bootstrap interval over'
    ' tunes, 95 %.',
    'Linear probe of the mean over time, accuracy balanced over classes:',
    _probes_table(report.probes),
  ]
  if report.covers:
    num_tunes = report.covers[0].score.num_clips
    parts += [
      f'{num_tunes} tunes played twice, by another instrument at another tempo'
      ' (ABX; blind: 0.5), and the mean distance of aligned frames (for tokens:'
      ' the share of frames whose tokens differ):',
      _covers_table(report.covers),
    ]
  parts += [
    f'Tokens, over {report.num_frames} held-out frames;'
    f' {report.repeated_share:.1%} repeat the frame before:',
    reports.codebooks_table([report.codebook]),
  ]
  return '\n\n'.join(parts) + '\n'


def _probes_table(probes: Sequence[semantic.ProbeFigures]) -> str:
  views = {probe.view for probe in probes}
  baselines = [name for name in semantic_views.BASELINES if name in views]
  rows = [
    ['task', 'from', 'accuracy ↑', *(f'gain over {b} ↑' for b in baselines)]
  ]
  for probe in probes:
    task = f'{probe.task} (blind: {1 / probe.num_classes:.3f})'
    gains = [
      reports.show(probe.gains[name], sign='+') if name in probe.gains else ''
      for name in baselines
    ]
    rows.append([task, probe.view, reports.show(probe.accuracy), *gains])
  return reports.table(rows)


def _covers_table(covers: Sequence[semantic.CoverFigures]) -> str:
  rows = [['from', 'same tune is nearer ↑', 'same tune', 'other tunes']]
  for figures in covers:
    rows.append(
      [
        figures.view,
        *map(reports.show, (figures.score, figures.same, figures.different)),
      ]
    )
  return reports.table(rows)
