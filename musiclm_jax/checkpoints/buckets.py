# SPDX-License-Identifier: Apache-2.0
"""Folders that may be in a bucket: `gs://bucket/runs/coarse`.

A bucket takes whole files only. What grows line by line, or is written by a
library that knows no buckets, grows in a local folder that is mirrored.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import time

from absl import logging
from etils import epath

# What pathlib does for a local folder, etils does for a bucket.
Folder = pathlib.Path | epath.Path


def is_bucket(path: str | os.PathLike[str]) -> bool:
  return '://' in os.fspath(path)


def folder(path: str | os.PathLike[str]) -> Folder:
  """The folder, with the methods of pathlib."""
  return epath.Path(path) if is_bucket(path) else pathlib.Path(path)


class Mirror:
  """A local folder to write to; the folder itself, if it is no bucket.

  Attributes:
    local: Where to write.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    """Makes the local folder; nothing of a bucket is read."""
    self._folder = folder(directory)
    self._is_copy = is_bucket(directory)
    self._tried_at = time.monotonic()
    self._pushed: dict[pathlib.Path, int] = {}
    if self._is_copy:
      self.local = pathlib.Path(tempfile.mkdtemp(prefix='musiclm-'))
    else:
      self.local = self._folder
      self.local.mkdir(parents=True, exist_ok=True)

  def pull(self, name: str) -> None:
    """Copies a file of the bucket, if it is there."""
    if self._is_copy and (self._folder / name).exists():
      (self.local / name).write_bytes((self._folder / name).read_bytes())

  def push(self) -> None:
    """Copies what has grown."""
    if not self._is_copy:
      return
    self._tried_at = time.monotonic()
    for path in sorted(self.local.rglob('*')):
      if path.is_file() and self._pushed.get(path) != path.stat().st_size:
        content = path.read_bytes()
        target = self._folder / path.relative_to(self.local).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self._pushed[path] = len(content)

  def push_if_due(self, *, every_seconds: float) -> None:
    """As `push`, so often; what fails is left to the next time."""
    if time.monotonic() - self._tried_at < every_seconds:
      return
    try:
      self.push()
    except Exception as error:  # Each kind of bucket has types of its own.
      logging.warning(
        '%s could not be written: %r. It is tried again.', self._folder, error
      )

  def close(self) -> None:
    """Copies what is left to copy, and removes the copy."""
    self.push()
    if self._is_copy:
      shutil.rmtree(self.local)
