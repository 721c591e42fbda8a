# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune: 25,863 clips of 29 s with tags that players of a game chose.

    annotations_final.csv          tab separated: clip_id, 188 tags, mp3_path
    mp3/f/artist-album-01-title-30-59.mp3

"Evaluation of Algorithms Using Games: The Case of Music Tagging" (Law et al.,
2009). SoundStream's music data. The split is the usual one: folders 0 to b
train, c validates, d to f test. Songs are cut into several clips; all clips of
a song are in the split of its first, so that none is in two.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import audio_files

_SEGMENT = re.compile(r'-\d+-\d+\.mp3$')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MagnaTagATune:
  """Every clip that the annotations name.

  Attributes:
    annotations_csv: annotations_final.csv.
    audio_dir: The folder in which the folders 0 to f are.
  """

  annotations_csv: str
  audio_dir: str

  @property
  def name(self) -> str:
    return 'magnatagatune'

  def clips(self) -> list[sources.ClipRef]:
    split_of_song: dict[str, str] = {}
    refs = []
    for path in sorted(self._tags):
      folder, _, file = path.partition('/')
      song = _SEGMENT.sub('', file)
      split = split_of_song.setdefault(song, _split_of_folder(folder))
      refs.append(sources.ClipRef(id=path, split=split, group=song))
    return refs

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    tags = self._tags[ref.id]
    return audio_files.load(
      pathlib.Path(self.audio_dir).expanduser() / ref.id,
      captions=(', '.join(tags),) if tags else (),
      facts={'tags': list(tags)},
    )

  @functools.cached_property
  def _tags(self) -> Mapping[str, tuple[str, ...]]:
    """Tags of each clip, by its path."""
    path = pathlib.Path(self.annotations_csv).expanduser()
    if not path.exists():
      raise ValueError(
        f'There is no {path}; annotations_csv is annotations_final.csv.'
      )
    with open(path, newline='', encoding='utf-8') as lines:
      header, *rows = csv.reader(lines, delimiter='\t')
    if header[0] != 'clip_id' or header[-1] != 'mp3_path':
      raise ValueError(
        f'{path} must have tab separated columns from clip_id to mp3_path, not'
        f' from {header[0]} to {header[-1]}.'
      )
    tags = header[1:-1]
    return {
      row[-1]: tuple(tag for tag, cell in zip(tags, row[1:-1]) if cell == '1')
      for row in rows
    }


def _split_of_folder(folder: str) -> str:
  number = int(folder, 16)
  if number < 12:
    return sources.TRAIN
  return sources.VALIDATION if number == 12 else sources.TEST
