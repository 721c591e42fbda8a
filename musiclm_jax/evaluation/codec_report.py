# SPDX-License-Identifier: Apache-2.0
"""A codec report as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax.evaluation import report as reports
from musiclm_jax.evaluation.bootstrap import estimate_mean
from musiclm_jax.evaluation.codec import CodecReport, SystemFigures

NAME = 'codec'  # Of both files.

# With the way to better; a metric that is not here goes by its own name.
_TITLES = {
  'mel_distance_db': 'mel distance, dB ↓',
  'si_sdr_db': 'SI-SDR, dB ↑',
  'visqol': 'ViSQOL ↑',
}


def write(report: CodecReport, *, directory: pathlib.Path, about: str) -> None:
  """Writes `codec.json`, every clip's figures included, and `codec.md`.

  Args:
    report: What was found.
    directory: Where to; made if absent.
    about: A line that says which model and which clips.
  """
  reports.write(
    directory,
    name=NAME,
    fields=to_json(report, about=about),
    text=to_markdown(report, about=about),
  )


def to_json(report: CodecReport, *, about: str) -> dict[str, Any]:
  """The whole report, with an estimate of each mean beside the figures."""
  fields = dataclasses.asdict(report)
  for system, written in zip(report.systems, fields['systems']):
    written['estimates'] = {
      name: dataclasses.asdict(estimate_mean(values))
      for name, values in system.figures.items()
    }
  return {'about': about, **fields}


def to_markdown(report: CodecReport, *, about: str) -> str:
  """Three tables: systems, differences to the lowest Opus, codebooks."""
  parts = [
    about,
    f'{report.num_clips} clips, {report.seconds:.0f} s in all, at'
    f' {report.sample_rate_hz} Hz. In brackets: bootstrap interval of the mean'
    ' over clips, 95 %. Measured kbps: payload of the packets for Opus; for the'
    ' codec the order-0 entropy of its codes, the bound of an adaptive coder.',
    _systems_table(report.systems),
  ]
  baseline = _lowest_opus(report.systems)
  if baseline is not None:
    parts += [
      f'Difference to {baseline.name} on the same clips:',
      _differences_table(report.systems, baseline=baseline),
    ]
  parts += [
    f'Codebooks, over {report.num_frames} frames:',
    reports.codebooks_table(report.codebooks),
  ]
  return '\n\n'.join(parts) + '\n'


def _systems_table(systems: Sequence[SystemFigures]) -> str:
  metrics = list(systems[0].figures)
  rows = [['system', 'kbps nominal', 'kbps measured', *map(_title, metrics)]]
  for system in systems:
    cells = [
      reports.show(estimate_mean(system.figures[name])) for name in metrics
    ]
    rows.append(
      [
        system.name,
        f'{system.nominal_kbps:.1f}',
        f'{system.measured_kbps:.2f}',
        *cells,
      ]
    )
  return reports.table(rows)


def _differences_table(
  systems: Sequence[SystemFigures], *, baseline: SystemFigures
) -> str:
  """Paired: the spread between clips, common to both, does not blur them."""
  metrics = list(baseline.figures)
  rows = [['system', *map(_title, metrics)]]
  for system in systems:
    if system is not baseline:
      cells = [
        reports.show(
          estimate_mean(
            np.subtract(system.figures[name], baseline.figures[name])
          ),
          sign='+',
        )
        for name in metrics
      ]
      rows.append([system.name, *cells])
  return reports.table(rows)


def _lowest_opus(systems: Sequence[SystemFigures]) -> SystemFigures | None:
  opus = [system for system in systems if system.name.startswith('Opus')]
  return min(opus, key=lambda system: system.nominal_kbps, default=None)


def _title(metric: str) -> str:
  return _TITLES.get(metric, metric.replace('_', ' '))
