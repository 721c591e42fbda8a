# SPDX-License-Identifier: Apache-2.0
"""A report on music: tables for people, JSON for programs, a page of plots."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax.evaluation import bootstrap, music, music_pictures, page
from musiclm_jax.evaluation import report as reports

NAME = 'music'  # Of all files.

_LEVELS = {
  'rms_db': 'level, dB of full scale',
  'silent_share': 'silent share',
  'clipped_share': 'clipped share',
  'flatness': 'spectral flatness',
}
_NUM_NAMED = 5  # The clips furthest from the reference, and bad files.


def write(
  report: music.MusicReport, *, directory: pathlib.Path, about: str
) -> None:
  """Writes `music.json`, every clip's figures included, `music.md` and `.html`.

  Args:
    report: What was found.
    directory: Where to; made if absent.
    about: A line that says how it was made.
  """
  sections = _sections(report, about=about)
  reports.write(
    directory,
    name=NAME,
    fields=to_json(report, about=about),
    text=to_markdown(report, about=about),
  )
  with tempfile.TemporaryDirectory() as folder:
    drawn = _draw(report, pathlib.Path(folder))
    page.write(
      directory / f'{NAME}.html',
      title='Music beside its reference',
      sections=[
        page.Section(title=title, text=text, pictures=drawn.get(title, {}))
        for title, text in sections.items()
      ],
    )


def to_json(report: music.MusicReport, *, about: str) -> dict[str, Any]:
  """All figures, and what each clip got."""
  return {
    'about': about,
    'warnings': list(report.warnings),
    'embedders': {
      name: _embedder(embedder) for name, embedder in report.embedders.items()
    },
    'sets': {
      'generated': _set(report.generated),
      'reference': _set(report.reference),
    },
    'num_pairs': report.num_pairs,
    'fad': {
      name: dataclasses.asdict(one) for name, one in report.frechet.items()
    },
    'kld': {name: dataclasses.asdict(one) for name, one in report.kld.items()},
    'mcc': {
      name: dataclasses.asdict(one) for name, one in report.consistency.items()
    },
  }


def to_markdown(report: music.MusicReport, *, about: str) -> str:
  """The tables under headings."""
  parts = ['# Music beside its reference']
  for title, text in _sections(report, about=about).items():
    parts += [f'## {title}', text]
  return '\n\n'.join(parts) + '\n'


def _sections(report: music.MusicReport, *, about: str) -> dict[str, str]:
  """Markdown by heading."""
  warnings = '\n'.join(f'- **Warning:** {text}.' for text in report.warnings)
  sections = {
    'Figures': '\n\n'.join(
      part for part in (about, _figures(report), warnings) if part
    ),
    'Levels': _levels(report),
  }
  if report.kld:
    sections['Classes'] = (
      'KLD is KL(reference ‖ generated) in nats, of class probabilities that'
      ' are averaged over a clip and divided by their sum.'
    )
  sections['Clips far from the reference'] = _furthest(report)
  sections['What was heard, and how'] = _heard(report)
  return sections


def _figures(report: music.MusicReport) -> str:
  rows = [['figure', 'value', 'without bias', 'samples', 'dimensions']]
  for name, one in report.frechet.items():
    rows.append(
      [
        f'FAD-{name} ↓',
        _significant(one.distance),
        f'{one.at_infinity:.4g} (fit {one.fit:.2f})'
        if np.isfinite(one.at_infinity)
        else 'too few clips',
        f'{one.num_samples[0]:,} beside {one.num_samples[1]:,}',
        str(one.dim),
      ]
    )
  for name, one in report.kld.items():
    pairs = f'{report.num_pairs} pairs'
    paired = reports.show(one.paired) if one.paired else 'no pairs'
    rows.append([f'KLD-{name}, of pairs ↓', paired, '', pairs, ''])
    rows.append([f'KLD-{name}, of sets ↓', reports.show(one.sets), '', '', ''])
  for name, one in report.consistency.items():
    prompts = f'{one.matched.num_clips} prompts'
    for label, estimate in (
      ('↑', one.matched),
      ('with prompts shuffled', one.shuffled),
      ('above shuffled ↑', one.above_shuffled),
      ('own prompt is best ↑', one.best_of_all),
    ):
      row = [f'MCC-{name} {label}', reports.show(estimate), '', prompts, '']
      rows.append(row)
  return (
    reports.table(rows)
    + '\n\nIn brackets: bootstrap interval, 95 %, over the clips of the'
    ' generated set (KLD of pairs: over their references; MCC: over prompts);'
    ' the reference is taken as it is.'
    ' Without bias: FAD∞, a line through the figures of parts of both'
    ' sets, at an endless number of samples.'
  )


def _levels(report: music.MusicReport) -> str:
  sides = report.generated, report.reference
  estimates = [music.level_estimates(side) for side in sides]
  rows = [['mean over clips', 'generated', 'reference']]
  for name, title in _LEVELS.items():
    cells = [
      reports.show(one[name]) if name in one else 'silence' for one in estimates
    ]
    rows.append([title, *cells])
  return (
    reports.table(rows) + '\n\nSilence may have a better FAD than music with'
    ' noise, so read these first.'
  )


def _furthest(report: music.MusicReport) -> str:
  rows = [['embedder', 'clip', 'FAD of it alone', 'samples']]
  for name, one in report.frechet.items():
    figures = np.nan_to_num(np.array(one.per_clip), nan=-np.inf)
    for n in np.argsort(-figures)[:_NUM_NAMED].tolist():
      if np.isfinite(figures[n]):
        samples = len(report.generated.embeddings[name][n])
        clip = report.generated.clips[n].name
        rows.append([name, clip, f'{figures[n]:.4g}', str(samples)])
  if len(rows) == 1:
    return 'The clips are too short for figures of their own.'
  return reports.table(rows) + '\n\nAll of them are in the JSON.'


def _heard(report: music.MusicReport) -> str:
  rows = [['set', 'clips', 'hours', 'seconds', 'rates, Hz', 'channels', 'bad']]
  for side, heard in (
    ('generated', report.generated),
    ('reference', report.reference),
  ):
    seconds = [clip.seconds for clip in heard.clips]
    rows.append(
      [
        f'{side}: {heard.source}',
        str(len(heard.clips)),
        f'{sum(seconds) / 3_600:.2f}',
        f'{min(seconds):.1f} to {max(seconds):.1f}',
        _counted(heard.counts('sample_rate_hz')),
        _counted(heard.counts('num_channels')),
        str(len(heard.bad)),
      ]
    )
  ears = [['embedder', 'window, s', 'hop, s', 'path', 'weights, SHA-256']]
  for name, embedder in report.embedders.items():
    ears.append(
      [
        name,
        f'{embedder.window_seconds:.3g}',
        f'{embedder.hop_seconds:.3g}',
        f'mean of channels, then soxr to {embedder.sample_rate_hz} Hz',
        f'`{embedder.weights_sha256}`',
      ]
    )
  parts = [
    reports.table(rows),
    'Clips are taken whole, at the level they have; what does not fill a last'
    ' window is not heard.',
    reports.table(ears),
  ]
  bad = [*report.generated.bad, *report.reference.bad]
  parts += [f'- not read: `{clip.name}`: {clip.reason}' for clip in bad]
  return '\n\n'.join(parts)


def _significant(estimate: bootstrap.Estimate) -> str:
  """Four digits, since embedders have scales of their own."""
  mean, low, high = (
    f'{value:.4g}' for value in (estimate.mean, estimate.low, estimate.high)
  )
  return f'{mean} [{low}, {high}]'


def _counted(counts: Mapping[int, int]) -> str:
  """'24000, or 24000 (7), 44100 (2)' if they differ."""
  if len(counts) == 1:
    return str(next(iter(counts)))
  return ', '.join(f'{value} ({count})' for value, count in counts.items())


def _draw(
  report: music.MusicReport, folder: pathlib.Path
) -> dict[str, dict[str, pathlib.Path]]:
  """Pictures by the heading that they stand under, and by caption."""
  path = folder / 'fad.png'
  music_pictures.save_extrapolations(report.frechet, path=path)
  drawn = {'Figures': {'FAD by the number of samples': path}}
  path = folder / 'levels.png'
  sides = {'generated': report.generated, 'reference': report.reference}
  music_pictures.save_per_clip(
    {
      title: {
        side: [getattr(clip.level, name) for clip in heard.clips]
        for side, heard in sides.items()
      }
      for name, title in _LEVELS.items()
    },
    path=path,
  )
  drawn['Levels'] = {'Clips of both sets': path}
  if report.kld:
    path = folder / 'classes.png'
    music_pictures.save_classes(report.kld, path=path)
    drawn['Classes'] = {'Most apart': path}
  return drawn


def _embedder(embedder: Any) -> dict[str, Any]:
  names = ('weights_sha256', 'sample_rate_hz', 'dim')
  return {
    name: getattr(embedder, name)
    for name in (*names, 'window_seconds', 'hop_seconds')
  }


def _set(heard: music.Heard) -> dict[str, Any]:
  return {
    'source': heard.source,
    'levels': {
      name: dataclasses.asdict(one)
      for name, one in music.level_estimates(heard).items()
    },
    'clips': [dataclasses.asdict(clip) for clip in heard.clips],
    'bad': [dataclasses.asdict(clip) for clip in heard.bad],
  }
