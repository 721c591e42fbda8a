# SPDX-License-Identifier: Apache-2.0
"""A folder of the user's own audio files, with captions if there are any.

    music/
      captions.csv         or captions.jsonl; may be left out
      one.flac
      live/two.mp3

captions.csv has a header; `file` is the path below the folder and `caption` a
description. `split` and `group` may be given; any other column is a fact. A file
may have several rows, hence several captions. captions.jsonl holds the same as
one object a line, in which `captions` may be a list.

    file,caption,split,mood
    one.flac,A slow waltz on an accordion.,train,calm
    live/two.mp3,"Fast reggae, with brass.",validation,
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from musiclm_jax.data import folders, shards, sources
from musiclm_jax.data.tasks import audio_files

CAPTION_FILES = ('captions.csv', 'captions.jsonl')

_KEYS = ('file', 'caption', 'captions', 'split', 'group')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
  """Every audio file below a folder is one clip.

  Attributes:
    directory: The folder.
    name: Of the data set.
  """

  directory: str
  name: str = 'folder'

  def clips(self) -> list[sources.ClipRef]:
    """By path. A file that only the captions name is there too, as missing."""
    files = {path.as_posix() for path in audio_files.find(self._root)}
    refs = []
    for file in sorted(files | self._rows.keys()):
      rows = self._rows.get(file, [])
      group = _single(rows, 'group', file=file) or file
      split = _single(rows, 'split', file=file) or sources.split_of(group)
      refs.append(sources.ClipRef(id=file, split=split, group=group))
    return refs

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    rows = self._rows.get(ref.id, [])
    captions = []
    for row in rows:
      captions += [row['caption']] if row.get('caption') else []
      captions += row.get('captions', [])
    facts: dict[str, Any] = {}
    for row in rows:
      facts |= {
        key: value
        for key, value in row.items()
        if key not in _KEYS and value not in (None, '')
      }
    return audio_files.load(self._root / ref.id, captions=captions, facts=facts)

  @property
  def _root(self) -> pathlib.Path:
    return folders.local(self.directory)

  @functools.cached_property
  def _rows(self) -> Mapping[str, list[dict[str, Any]]]:
    """Rows of the captions file by the file that they describe."""
    paths = [self._root / name for name in CAPTION_FILES]
    paths = [path for path in paths if path.exists()]
    if len(paths) > 1:
      raise ValueError(
        f'{self._root} has both {" and ".join(CAPTION_FILES)}; keep one.'
      )
    by_file: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
      for line, row in _read_rows(path):
        if not row.get('file'):
          raise ValueError(f"{path}:{line} names no file: it wants 'file'.")
        file = pathlib.PurePath(row['file']).as_posix()
        by_file.setdefault(file, []).append(row)
    return by_file


def write_captions(
  directory: str | pathlib.Path,
  captions: Mapping[str, Sequence[str]],
  *,
  facts: Mapping[str, Any],
) -> pathlib.Path:
  """Writes captions beside the audio that they describe, as `Folder` reads.

  Args:
    directory: The folder.
    captions: By path below the folder.
    facts: What else to say of each of these files.

  Returns:
    The new captions.jsonl.

  Raises:
    ValueError: The folder has captions, which are never written over.
  """
  directory = folders.local(directory)
  require_no_captions(directory)
  path = directory / CAPTION_FILES[-1]
  rows = (
    {'file': file, 'captions': list(texts), **facts}
    for file, texts in captions.items()
  )
  with shards.replacing(path) as file:
    for row in rows:
      line = json.dumps(row, ensure_ascii=False) + '\n'
      file.write(line.encode('utf-8'))
  return path


def require_no_captions(directory: str | pathlib.Path) -> None:
  """Raises if the folder has a captions file."""
  directory = folders.local(directory)
  for name in CAPTION_FILES:
    if (directory / name).exists():
      raise ValueError(
        f'{directory / name} exists; move it away, or caption another folder.'
      )


def _single(rows: list[dict[str, Any]], key: str, *, file: str) -> str | None:
  values = {row[key] for row in rows if row.get(key)}
  if len(values) > 1:
    raise ValueError(
      f'The captions give {file} more than one {key}: {sorted(values)}.'
    )
  return values.pop() if values else None


def _read_rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Line number and fields of each row."""
  # A byte-order mark, which spreadsheets write, would be part of 'file'.
  with open(path, newline='', encoding='utf-8-sig') as lines:
    if path.suffix == '.csv':
      reader = csv.DictReader(lines)
      for row in reader:
        yield reader.line_num, row
      return
    for number, line in enumerate(lines, start=1):
      try:
        if line.strip():
          yield number, json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(f'{path}:{number} is not JSON: {error}.') from error
