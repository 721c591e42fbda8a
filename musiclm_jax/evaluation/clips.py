# SPDX-License-Identifier: Apache-2.0
"""Music to be measured: any folder of audio, whoever wrote it, or arrays.

Shapes: waveform [samples], one channel.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import soundfile

from musiclm_jax.audio import io
from musiclm_jax.audio.resample import HostWaveform

SUFFIXES = (
  *('.wav', '.flac', '.ogg', '.opus', '.mp3'),
  *('.aif', '.aiff', '.au', '.caf', '.w64'),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """Some music.

  Attributes:
    name: Of it in its set: a file's path in its folder.
    waveform: At its own rate, mixed down by the mean of its channels.
    sample_rate_hz: As it came.
    num_channels: As it came.
  """

  name: str
  waveform: HostWaveform
  sample_rate_hz: int
  num_channels: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadClip:
  """What could not be heard.

  Attributes:
    name: Of it in its set.
    reason: What is wrong with it.
  """

  name: str
  reason: str


def files_of(directory: str | os.PathLike[str]) -> list[pathlib.Path]:
  """The audio files of a folder and of those in it, by name.

  What is audio is told by the suffix; hidden files are passed over.

  Raises:
    ValueError: It is no folder, or holds no audio.
  """
  folder = pathlib.Path(directory).expanduser()
  if not folder.is_dir():
    raise ValueError(f'{directory} is no folder; name one of audio files.')
  found = sorted(
    path
    for path in folder.rglob('*')
    if path.suffix.lower() in SUFFIXES
    and path.is_file()
    and not path.name.startswith('.')
  )
  if not found:
    raise ValueError(
      f'{directory} holds no audio; files that end in {", ".join(SUFFIXES)} are'
      ' read.'
    )
  return found


def read(directory: str | os.PathLike[str]) -> Iterator[Clip | BadClip]:
  """Every audio file of a folder, a file at a time; see `files_of`."""
  folder = pathlib.Path(directory).expanduser()
  for path in files_of(folder):
    yield read_file(path, name=path.relative_to(folder).as_posix())


def read_file(path: pathlib.Path, *, name: str) -> Clip | BadClip:
  """One audio file, as it came."""
  try:
    recording = io.read(path)
  except io.AudioFileError as error:
    return BadClip(name=name, reason=error.message)
  return Clip(
    name=name,
    waveform=recording.waveform,
    sample_rate_hz=recording.sample_rate_hz,
    num_channels=soundfile.info(path).channels,
  )


def pairs_of(names: list[str], references: list[str]) -> list[tuple[int, int]]:
  """Numbers of clips of one name in both sets, whatever kind of audio."""
  places = {_stem(name): n for n, name in enumerate(references)}
  stems = map(_stem, names)
  return [(n, places[stem]) for n, stem in enumerate(stems) if stem in places]


def _stem(name: str) -> pathlib.PurePosixPath:
  """Without the suffix of a file; the id of a piece may have dots."""
  path = pathlib.PurePosixPath(name)
  return path.with_suffix('') if path.suffix.lower() in SUFFIXES else path
