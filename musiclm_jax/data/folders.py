# SPDX-License-Identifier: Apache-2.0
"""Where corpora are: in local or mounted folders, for ArrayRecord reads no others."""

from __future__ import annotations

import os
import pathlib


def local(directory: str | os.PathLike[str]) -> pathlib.Path:
  """The folder, with `~` expanded.

  Raises:
    ValueError: It is in a bucket.
  """
  if '://' in os.fspath(directory):
    raise ValueError(
      f'{directory} is not a local folder, and audio and corpora are read from'
      ' those alone; mount the bucket (gcsfuse), or copy the folder.'
    )
  return pathlib.Path(directory).expanduser()
