# SPDX-License-Identifier: Apache-2.0
"""A report on a joint space as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from musiclm_jax.evaluation import code_agreement, mulan
from musiclm_jax.evaluation import report as reports

NAME = 'mulan'  # Of both files.


def write(
  report: mulan.MulanReport, *, directory: pathlib.Path, about: str
) -> None:
  """Writes `mulan.json` and `mulan.md`.

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


def to_markdown(report: mulan.MulanReport, *, about: str) -> str:
  """Retrieval, over all captions and by kind, then tags, then codebooks."""
  first = report.kinds[0]
  parts = [
    about,
    f'{report.num_clips} clips of {report.num_tunes} tunes. In brackets:'
    ' bootstrap interval over tunes, 95 %. Clips whose captions state the same'
    ' are right answers of each other, in the figures and in chance alike.',
    f'Retrieval, captions: {first.name};'
    f' {first.answers:.2f} right answers a query:',
    _retrieval_table(first),
  ]
  if len(report.kinds) > 1:
    parts += [
      f'By kind of caption, R@{mulan.CUTOFFS[-1]}:',
      _kinds_table(report.kinds),
    ]
  if report.tags:
    parts += [
      'Zero-shot tagging, area under the ROC curve, mean over tags (blind:'
      ' 0.5):',
      _tags_table(report.tags),
    ]
  if report.levels:
    parts += [
      f'Codebooks, over {report.num_windows} windows of these clips and over'
      ' their captions; agreement: captions with the code of their clip, and'
      ' with that of a clip at random:',
      _levels_table(report.levels),
    ]
  return '\n\n'.join(parts) + '\n'


def _retrieval_table(kind: mulan.KindFigures) -> str:
  chance = kind.chance
  most = mulan.CUTOFFS[-1]
  rows = [
    [
      '',
      'system',
      *(f'R@{k} ↑' for k in mulan.CUTOFFS),
      f'R@{most} / chance',
      'median rank ↓',
      'mAP ↑',
    ],
    [
      'either way',
      'chance',
      *(f'{chance.served[k]:.3f}' for k in mulan.CUTOFFS),
      '1.0',
      f'{chance.median_rank:g}',
      f'{chance.mean_average_precision:.3f}',
    ],
  ]
  for found in sorted(kind.retrieval, key=lambda f: f.direction, reverse=True):
    at_most = found.served[most]
    ratios = [
      value / chance.served[most]
      for value in (at_most.mean, at_most.low, at_most.high)
    ]
    median = found.median_rank
    rows.append(
      [
        found.direction,
        found.system,
        *(reports.show(found.served[k]) for k in mulan.CUTOFFS),
        '{:.1f} [{:.1f}, {:.1f}]'.format(*ratios),
        f'{median.mean:g} [{median.low:g}, {median.high:g}]',
        reports.show(found.mean_average_precision),
      ]
    )
  return reports.table(rows)


def _kinds_table(kinds: Sequence[mulan.KindFigures]) -> str:
  columns = [(found.direction, found.system) for found in kinds[0].retrieval]
  columns = [column for column in columns if column[1] == columns[0][1]]
  rows = [
    [
      'captions',
      'right answers',
      'chance',
      *(f'{direction}, {system}' for direction, system in columns),
    ]
  ]
  most = mulan.CUTOFFS[-1]
  for kind in kinds:
    figures = {
      (found.direction, found.system): found.served[most]
      for found in kind.retrieval
    }
    rows.append(
      [
        kind.name,
        f'{kind.answers:.2f}',
        f'{kind.chance.served[most]:.3f}',
        *(reports.show(figures[column]) for column in columns),
      ]
    )
  return reports.table(rows)


def _tags_table(tags: Sequence[mulan.TagFigures]) -> str:
  rows = [['tags', 'number', 'system', 'mean area ↑']]
  for found in tags:
    rows.append(
      [
        found.fact,
        str(len(found.areas)),
        found.system,
        reports.show(found.mean_area),
      ]
    )
  return reports.table(rows)


def _levels_table(levels: Sequence[code_agreement.LevelFigures]) -> str:
  rows = [
    [
      'level',
      'codes used by music',
      'perplexity',
      'used by captions',
      'perplexity',
      'agreement ↑',
      'at random',
    ]
  ]
  for number, level in enumerate(levels, start=1):
    rows.append(
      [
        str(number),
        f'{level.music.used_share:.1%}',
        f'{level.music.perplexity:.1f}',
        f'{level.captions.used_share:.1%}',
        f'{level.captions.perplexity:.1f}',
        f'{level.agreement:.3f}',
        f'{level.blind_agreement:.3f}',
      ]
    )
  return reports.table(rows)
