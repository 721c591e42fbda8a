# SPDX-License-Identifier: Apache-2.0
"""The demo model: a small trained cascade that comes with the package.

It is named by the word `demo`, a string, wherever the folder of a model is; a
folder of that name is `./demo` or a path. It lies in `musiclm_jax/demo/`, which
the wheel carries, with a model card.
"""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import re

NAME = 'demo'
CARD = 'MODEL_CARD.md'


def find() -> pathlib.Path | None:
  """The demo's folder; None if this package has no demo."""
  found = pathlib.Path(str(importlib.resources.files('musiclm_jax'))) / NAME
  return found if found.is_dir() else None


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
  folder = find()
  if folder is None:
    raise ValueError(
      'This version of musiclm_jax comes without a demo model; give the folder'
      ' of a trained one, such as that of `musiclm quickstart`. (A folder named'
      ' demo is ./demo.)'
    )
  return folder


def card() -> dict[str, str]:
  """What the demo's card says, in Markdown, by heading."""
  text = (resolve(NAME) / CARD).read_text(encoding='utf-8')
  _, *parts = re.split(r'^## (.+)\n', text, flags=re.MULTILINE)
  return {
    heading: body.strip() for heading, body in zip(parts[::2], parts[1::2])
  }
