# SPDX-License-Identifier: Apache-2.0
"""What every data set of audio files shares: finding and reading them."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.audio import io
from musiclm_jax.data.sources import Clip, RejectedClip

# What is read, and what is audio but has to be converted first: such files are
# listed too, so that they are counted and not overlooked.
READABLE = ('.wav', '.flac', '.mp3', '.ogg', '.opus', '.aiff', '.aif')
CONVERTIBLE = ('.m4a', '.aac', '.wma', '.mp4', '.webm')


def find(directory: pathlib.Path) -> list[pathlib.Path]:
  """Audio files below a folder, hidden ones left out, in order of their names.

  The paths are relative to the folder.
  """
  if not directory.is_dir():
    raise ValueError(f'There is no folder {directory}; look at the path.')
  found = [
    path.relative_to(directory)
    for path in directory.rglob('*')
    if path.suffix.lower() in READABLE + CONVERTIBLE and path.is_file()
  ]
  return sorted(
    path
    for path in found
    if not any(part.startswith('.') for part in path.parts)
  )


def load(
  path: pathlib.Path,
  *,
  start_seconds: float = 0.0,
  num_seconds: float | None = None,
  captions: Sequence[str] = (),
  facts: Mapping[str, Any] | None = None,
) -> Clip:
  """A file, or a part of it, as a clip.

  Raises:
    RejectedClip: There is no such file, or no audio in it.
  """
  if path.suffix.lower() in CONVERTIBLE and path.exists():
    raise RejectedClip(
      'unreadable', f'{path}: convert {path.suffix} files to FLAC or WAV first'
    )
  try:
    recording = io.read(
      path, start_seconds=start_seconds, num_seconds=num_seconds
    )
  except io.AudioFileError as error:
    raise RejectedClip(error.reason.replace('_', ' '), str(error)) from error
  return Clip(
    waveform=recording.waveform,
    sample_rate_hz=recording.sample_rate_hz,
    captions=tuple(captions),
    facts=dict(facts or {}),
  )
