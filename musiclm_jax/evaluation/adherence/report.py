# SPDX-License-Identifier: Apache-2.0
"""What was heard beside what was asked for, as tables and as JSON."""

from __future__ import annotations

import dataclasses
import pathlib

from musiclm_jax.evaluation import report as reports
from musiclm_jax.evaluation.adherence import beats, figures
from musiclm_jax.evaluation.adherence.evaluate import AdherenceReport

NAME = 'adherence'  # Of both files.


def write(
  report: AdherenceReport, *, directory: pathlib.Path, about: str
) -> None:
  """Writes `adherence.json`, every clip's figures included, and `.md`.

  Args:
    report: What was found.
    directory: Where to; made if absent.
    about: A line that says which music and which prompts.
  """
  reports.write(
    directory,
    name=NAME,
    fields={'about': about, **dataclasses.asdict(report)},
    text=to_markdown(report, about=about),
  )


def to_markdown(report: AdherenceReport, *, about: str) -> str:
  """One table of all figures, one of families, and what is not heard."""
  silent = f' {report.num_silent} of them silent,' if report.num_silent else ''
  parts = [
    about,
    f'{report.num_clips} clips,{silent} each under its own prompt and under'
    f' up to {figures.NUM_SHIFTS} other prompts. In brackets: bootstrap interval'
    f' over prompts, 95 %. A tempo is right within {beats.TOLERANCE:.0%}.',
    _figures_table(report),
  ]
  if report.families:
    parts += ['Families of instruments, by tags:', _families_table(report)]
  if report.inaudible:
    told = ', '.join(f'{k} ({n})' for k, n in sorted(report.inaudible.items()))
    parts.append(f'No tag tells these families, stated so often: {told}.')
  return '\n\n'.join(parts) + '\n'


def _figures_table(report: AdherenceReport) -> str:
  rows = [['what agrees', 'clips', 'own prompt ↑', 'other prompts', 'gain ↑']]
  for figure in report.figures:
    rows.append(
      [
        figure.name,
        str(len(figure.values)),
        reports.show(figure.own),
        reports.show(figure.shuffled),
        reports.show(figure.gain, sign='+'),
      ]
    )
  return reports.table(rows)


def _families_table(report: AdherenceReport) -> str:
  rows = [['family', 'stated', 'heard where stated ↑', 'where it is not ↓']]
  for family, (own, others) in report.families.items():
    shown = map(reports.show, (own, others))
    rows.append([family, str(own.num_clips), *shown])
  return reports.table(rows)
