# SPDX-License-Identifier: Apache-2.0
"""MusicCaps: 5,521 clips of 10 s, each with a musician's caption and aspects.

    musiccaps-public.csv       ytid,start_s,end_s,…,aspect_list,caption,…
    audio/<ytid>.wav           the audio is not part of the data set; what is
                               not there is counted as missing

"MusicLM: Generating Music From Text" (Agostinelli et al., 2023), section 5.3. It
is an evaluation set, so all of it is the test split.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import audio_files

_COLUMNS = ('ytid', 'start_s', 'end_s', 'aspect_list', 'caption')
_IS_BALANCED = 'is_balanced_subset'


@dataclasses.dataclass(frozen=True, kw_only=True)
class MusicCaps:
  """The clips of the table whose audio is in a folder.

  Attributes:
    csv_path: The table.
    audio_dir: Folder of `<ytid>` files of any audio format.
    audio: 'clips' if each file is the 10 s that are described, 'videos' if each
      is the whole sound track, out of which they are cut.
  """

  csv_path: str
  audio_dir: str
  audio: str = 'clips'

  def __post_init__(self):
    if self.audio not in ('clips', 'videos'):
      raise ValueError(f"audio is 'clips' or 'videos', not {self.audio!r}.")

  @property
  def name(self) -> str:
    return 'musiccaps'

  def clips(self) -> list[sources.ClipRef]:
    return [
      sources.ClipRef(id=ytid, split=sources.TEST, group=ytid)
      for ytid in self._rows
    ]

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    row = self._rows[ref.id]
    start_s, end_s = float(row['start_s']), float(row['end_s'])
    is_cut = self.audio == 'clips'
    clip = audio_files.load(
      self._path(ref.id),
      start_seconds=0.0 if is_cut else start_s,
      num_seconds=None if is_cut else end_s - start_s,
      captions=(row['caption'],),
      facts={
        'aspects': ast.literal_eval(row['aspect_list']),
        'start_s': start_s,
        'end_s': end_s,
        # About half of the set is of AudioSet's evaluation part.
        'is_audioset_eval': row.get('is_audioset_eval') == 'True',
      },
    )
    seconds = len(clip.waveform) / clip.sample_rate_hz
    # A second more: downloaders cut at the nearest frame of a video.
    if seconds > end_s - start_s + 1:
      raise sources.RejectedClip(
        'too long',
        f'{seconds:.1f} s for a clip of {end_s - start_s:g} s; if the files are'
        " whole sound tracks, set audio='videos'",
      )
    return clip

  def _path(self, ytid: str) -> pathlib.Path:
    root = pathlib.Path(self.audio_dir).expanduser()
    paths = [root / f'{ytid}{suffix}' for suffix in audio_files.READABLE]
    found = [path for path in paths if path.exists()]
    return found[0] if found else paths[0]

  @functools.cached_property
  def _rows(self) -> Mapping[str, Mapping[str, str]]:
    return read_table(self.csv_path)


def read_table(
  csv_path: str | os.PathLike[str], *, balanced: bool = False
) -> dict[str, dict[str, str]]:
  """The rows of the table by `ytid`.

  Args:
    csv_path: The table.
    balanced: Those alone of the subset whose genres have equal parts.

  Raises:
    ValueError: There is no such table, or it lacks a column or the subset.
  """
  path = pathlib.Path(csv_path).expanduser()
  if not path.exists():
    raise ValueError(f'There is no {path}; csv_path is the MusicCaps table.')
  with open(path, newline='', encoding='utf-8') as lines:
    reader = csv.DictReader(lines)
    wanted = {*_COLUMNS, *([_IS_BALANCED] if balanced else [])}
    if missing := wanted - set(reader.fieldnames or ()):
      raise ValueError(f'{path} lacks the columns {sorted(missing)}.')
    rows = {row['ytid']: row for row in reader}
  if balanced:
    rows = {k: row for k, row in rows.items() if row[_IS_BALANCED] == 'True'}
    if not rows:
      raise ValueError(f'No row of {path} is of the balanced subset.')
  return rows
