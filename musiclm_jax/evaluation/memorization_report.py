# SPDX-License-Identifier: Apache-2.0
"""What a stage has by heart, as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax.evaluation import bootstrap, memorization
from musiclm_jax.evaluation import report as reports

NAME = 'memorization'  # Of both files.


def write(
  report: memorization.MemorizationReport,
  *,
  directory: pathlib.Path,
  about: str,
) -> None:
  """Writes `memorization.json`, every example's figures included, and `.md`.

  Args:
    report: What was found.
    directory: Where to; made if absent.
    about: A line that says which model and which examples.
  """
  reports.write(
    directory,
    name=NAME,
    fields=to_json(report, about=about),
    text=to_markdown(report, about=about),
  )


def to_json(
  report: memorization.MemorizationReport, *, about: str
) -> dict[str, Any]:
  prompts = [
    {
      **{
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(figures).items()
      },
      'summary': memorization.summary(figures, threshold=report.threshold),
    }
    for figures in report.prompts
  ]
  return {'about': about, **dataclasses.asdict(report), 'prompts': prompts}


def to_markdown(report: memorization.MemorizationReport, *, about: str) -> str:
  """One table, a row for each split and length of prompt."""
  config = report.config
  return (
    '\n\n'.join(
      [
        about,
        f'Greedy continuations of {config.num_generated} tokens. A match is'
        f' approximate below a cost of {report.threshold:.3f}, set on'
        f' {report.num_negatives:,} pairs that do not belong together so that'
        f' fewer than {config.false_positive_rate:.2%} of them match (with so many'
        f' pairs, known to {1 / report.num_negatives:.2%}); the'
        f' mean distance between centroids is {report.mean_distance:.3f}. Beside'
        f" it the paper's {memorization.PAPER_THRESHOLD}, which is in the units of"
        ' its own centroids. In brackets: bootstrap interval over tunes, 95 %.',
        _table(report),
      ]
    )
    + '\n'
  )


def _table(report: memorization.MemorizationReport) -> str:
  rows = [
    [
      'split',
      'examples',
      'tokens given',
      'exact',
      'approximate',
      f'below {memorization.PAPER_THRESHOLD}',
      'lowest cost',
      'entropy, bits',
      'entropy of matches',
    ]
  ]
  for figures in report.prompts:
    means = memorization.summary(figures, threshold=report.threshold)
    of_matches = means['entropy_bits_of_matches']
    rows.append(
      [
        figures.split,
        str(len(figures.tunes)),
        str(figures.prompt_frames),
        _share(figures.exact, figures.tunes),
        _share(figures.costs < report.threshold, figures.tunes),
        f'{means["approximate_at_paper_threshold"]:.3f}',
        f'{means["lowest_cost"]:.3f}',
        f'{means["entropy_bits"]:.2f}',
        '' if of_matches is None else f'{of_matches:.2f}',
      ]
    )
  return reports.table(rows)


def _share(matches: np.ndarray, tunes: Sequence[str]) -> str:
  return reports.show(
    bootstrap.estimate(lambda rows: float(matches[rows].mean()), groups=tunes)
  )
