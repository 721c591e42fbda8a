# SPDX-License-Identifier: Apache-2.0
"""FMA: music of the Free Music Archive, with its metadata and split.

    fma_metadata/tracks.csv         a header of three rows
    fma_large/000/000002.mp3        30 s clips; fma_full has whole tracks

"FMA: A Dataset For Music Analysis" (Defferrard et al., 2017). MusicLM trains its
codec and its semantic model on it ("MusicLM: Generating Music From Text",
section 5.1). It has no captions; the official split is kept.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import audio_files

# Each holds the ones before it.
SUBSETS = ('small', 'medium', 'large', 'full')

_SPLITS = {
  'training': sources.TRAIN,
  'validation': sources.VALIDATION,
  'test': sources.TEST,
}

# Fact to column of tracks.csv, as (first header row, second header row).
_FACTS = {
  'title': ('track', 'title'),
  'artist': ('artist', 'name'),
  'album': ('album', 'title'),
  'genre': ('track', 'genre_top'),
  'license': ('track', 'license'),
}
_TAGS = ('track', 'tags')
_COLUMNS = (('set', 'split'), ('set', 'subset'), _TAGS, *_FACTS.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fma:
  """The tracks of one subset.

  Attributes:
    metadata_dir: Where tracks.csv is.
    audio_dir: Folder of the subset: fma_small, fma_medium, fma_large, fma_full.
    subset: 'small', 'medium', 'large' or 'full'.
  """

  metadata_dir: str
  audio_dir: str
  subset: str = 'large'

  def __post_init__(self):
    if self.subset not in SUBSETS:
      raise ValueError(
        f'FMA has the subsets {", ".join(SUBSETS)}, not {self.subset!r}.'
      )

  @property
  def name(self) -> str:
    return f'fma_{self.subset}'

  def clips(self) -> list[sources.ClipRef]:
    return [
      sources.ClipRef(id=track, split=_SPLITS[row['set', 'split']], group=track)
      for track, row in self._tracks.items()
    ]

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    row = self._tracks[ref.id]
    facts: dict[str, Any] = {
      fact: row[column] for fact, column in _FACTS.items() if row[column]
    }
    if tags := ast.literal_eval(row[_TAGS] or '[]'):
      facts['tags'] = tags
    return audio_files.load(self._path(ref.id), facts=facts)

  def _path(self, track: str) -> pathlib.Path:
    root = pathlib.Path(self.audio_dir).expanduser()
    return root / track[:3] / f'{track}.mp3'

  @functools.cached_property
  def _tracks(self) -> Mapping[str, Mapping[tuple[str, str], str]]:
    """Columns of every track of the subset, by six-digit track number."""
    wanted = SUBSETS[: SUBSETS.index(self.subset) + 1]
    path = pathlib.Path(self.metadata_dir).expanduser() / 'tracks.csv'
    if not path.exists():
      raise ValueError(
        f'There is no {path}; metadata_dir is the unpacked fma_metadata.zip.'
      )
    # Some biographies are longer than the csv module expects.
    csv.field_size_limit(sys.maxsize)
    with open(path, newline='', encoding='utf-8') as lines:
      reader = csv.reader(lines)
      columns = list(zip(next(reader), next(reader)))
      _require_columns(path, columns)
      next(reader)  # 'track_id' and empty cells.
      # The track number is the first column, which has no name. Of the others
      # only what is used: the source is pickled into every worker.
      places = {column: columns.index(column) for column in _COLUMNS}
      tracks = {
        f'{int(cells[0]):06d}': {
          column: cells[place] for column, place in places.items()
        }
        for cells in reader
      }
    return {
      track: row
      for track, row in tracks.items()
      if row['set', 'subset'] in wanted
    }


def _require_columns(
  path: pathlib.Path, columns: list[tuple[str, str]]
) -> None:
  missing = ['/'.join(column) for column in _COLUMNS if column not in columns]
  if missing:
    raise ValueError(
      f'{path} lacks the columns {", ".join(missing)}; is it tracks.csv of'
      ' fma_metadata, with its header of three rows?'
    )
