# SPDX-License-Identifier: Apache-2.0
"""A page of results, each with its command, its seed and its fingerprints.

An evaluation leaves an origin beside its report. The page puts reports and
origins together, and the published figures of others in a table of their own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.checkpoints import bundle, text_file
from musiclm_jax.evaluation import prompts, report
from musiclm_jax.inference import assembly

_SUFFIX = '.origin.json'
_NUM_DIGITS = 16  # Of a fingerprint on the page.

# MusicLM: Generating Music From Text (Agostinelli et al., 2023), table 1;
# Simple and Controllable Music Generation (Copet et al., 2023), model cards of
# what was released; Noise2Music (Huang et al., 2023).
_PUBLISHED = (
  ('MusicLM', '4.0', '0.44', '1.01', '0.51', '', '312'),
  ('MusicLM without semantic stage', '4.0', '0.42', '1.05', '0.49', '', ''),
  ('Riffusion, in MusicLM', '13.4', '0.76', '1.19', '0.34', '', '158'),
  ('Mubert, in MusicLM', '9.6', '0.45', '1.58', '0.32', '', '97'),
  ('MusicCaps itself, in MusicLM', '', '', '', '', '', '472'),
  ('Noise2Music, waveform', '2.134', '0.405', '', '0.478', '', ''),
  ('MusicGen small, released', '4.88', '', '1.42', '', '0.27', ''),
  ('MusicGen medium, released', '5.14', '', '1.38', '', '0.28', ''),
  ('MusicGen large, released', '5.48', '', '1.37', '', '0.28', ''),
)
_COLUMNS = (
  'system',
  'FAD VGGish ↓',
  'FAD TRILL ↓',
  'KLD ↓',
  'MCC ↑',
  'CLAP ↑',
  'wins of 600 ↑',
)
_NOTE = (
  'On MusicCaps, as printed. They compare with nothing above: FAD depends on'
  ' the reference, the sample rate, the length of clips and the port of the network'
  ' (the same Riffusion has 13.4 in one paper and 14.8 in another); KLD is over'
  ' the classes of a LEAF classifier that was not released in the first five'
  ' rows and of PaSST in the last three; MCC is of a MuLan that was not released.'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
  """What gives a report again.

  Attributes:
    kind: Of evaluation; the report's name too.
    command: That was run.
    seed: Of its draws, those of the intervals included.
    fingerprints: Of the bundles it read, by folder.
  """

  kind: str
  command: str
  seed: int
  fingerprints: Mapping[str, str]


def write_origin(directory: str | os.PathLike[str], origin: Origin) -> None:
  """Writes it beside the report."""
  path = pathlib.Path(directory) / f'{origin.kind}{_SUFFIX}'
  text_file.write(path, json.dumps(dataclasses.asdict(origin), indent=2) + '\n')


def fingerprints_of(folders: Sequence[str]) -> dict[str, str]:
  """Those of bundles, of whole models and of what a model made, by folder."""
  found = {}
  for folder in map(pathlib.Path, folders):
    if (folder / bundle.MODEL_JSON).is_file():
      fields = json.loads((folder / bundle.MODEL_JSON).read_text())
      found[str(folder)] = fields['fingerprint']
    elif (folder / assembly.MUSIC_LM_JSON).is_file():
      parts = assembly.read(folder)
      bundles = [*parts.tokenizers.values(), *parts.stages.values()]
      found |= fingerprints_of([str(path) for path in bundles])
    elif (folder / prompts.GENERATED_JSON).is_file():
      made = json.loads((folder / prompts.GENERATED_JSON).read_text())
      for name, fingerprint in made.get('fingerprints', {}).items():
        found[f'{folder}, {name}'] = fingerprint
  return found


def page(directories: Sequence[str | os.PathLike[str]]) -> str:
  """The page as Markdown.

  Args:
    directories: That evaluations wrote to, in order.

  Raises:
    ValueError: A folder has no report whose origin is known, or two reports
      are of different models in one place.
  """
  found = {
    path: json.loads(path.read_text())
    for directory in directories
    for path in origins_of(directory)
  }
  _require_one_model_a_folder(found)
  parts = [
    '# Results',
    'Made by `musiclm results`; do not edit. What the figures mean, and what'
    ' they do not, is in [evaluation](evaluation.md).',
  ]
  for path, origin in found.items():
    parts += _section(origin, directory=path.parent)
  rows = [_COLUMNS, *_PUBLISHED]
  parts += ['## Published by others', _NOTE, report.table(rows)]
  return '\n\n'.join(parts) + '\n'


def origins_of(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """One for each report of a folder, by name."""
  paths = sorted(pathlib.Path(directory).glob(f'*{_SUFFIX}'))
  if not paths:
    raise ValueError(
      f'{directory} has no *{_SUFFIX}; run `musiclm evaluate` with it as'
      ' --output.'
    )
  return paths


def _require_one_model_a_folder(
  origins: Mapping[pathlib.Path, Mapping[str, Any]],
) -> None:
  """Else the page would speak of two models as if they were one."""
  known = {}
  for path, origin in origins.items():
    for folder, fingerprint in origin['fingerprints'].items():
      shown = fingerprint[:_NUM_DIGITS]
      other, where = known.setdefault(folder, (shown, path))
      if shown != other:
        raise ValueError(
          f'{folder} is {other} in {where} and {shown} in {path}: it was'
          ' trained or made anew between them; evaluate again what is of the'
          ' older one.'
        )


def _section(
  origin: Mapping[str, Any], *, directory: pathlib.Path
) -> list[str]:
  """Heading, origin and tables of one report."""
  kind = origin['kind']
  bundles = [
    f'- {folder}: `{fingerprint[:_NUM_DIGITS]}`'
    for folder, fingerprint in origin['fingerprints'].items()
  ]
  return [
    f'## {kind.capitalize()}, {directory}',
    f'```\n{origin["command"]}\n```',
    f'Seed {origin["seed"]}. Bundles:'
    if bundles
    else f'No bundle was read. Seed {origin["seed"]}.',
    *(['\n'.join(bundles)] if bundles else []),
    _below((directory / f'{kind}.md').read_text().rstrip('\n')),
  ]


def _below(report: str) -> str:
  """A report's headings two levels down, under that of its section."""
  return re.sub(r'^(#+ )', r'##\1', report, flags=re.MULTILINE)
