# SPDX-License-Identifier: Apache-2.0
"""The demo model: a small trained cascade that comes with the package.

It is named by the word `demo`, a string, wherever the folder of a model is; a
folder of that name is `./demo` or a path. It lies in `musiclm_jax/demo/`, which
the wheel carries.
"""

from __future__ import annotations

import importlib.resources
import os
import pathlib

NAME = 'demo'


def resolve(directory: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a model, be it that of the demo.

  Args:
    directory: A folder, or the word 'demo'.

  Raises:
    ValueError: The demo is wanted, and this package has none.
  """
  # A path never is the word: `./demo`, once resolved, is Path('demo').
  if directory != NAME:
    return pathlib.Path(directory)
  folder = pathlib.Path(str(importlib.resources.files('musiclm_jax'))) / NAME
  if not folder.is_dir():
    raise ValueError(
      'This version of musiclm_jax comes without a demo model; give the folder'
      ' of a trained one, such as that of `musiclm quickstart`. (A folder named'
      ' demo is ./demo.)'
    )
  return folder
