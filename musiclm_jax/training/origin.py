# SPDX-License-Identifier: Apache-2.0
"""Whose codes a run is trained on: it goes on with those, or not at all.

Codes of another tokenizer have the same shapes and mean something else, so
neither the step nor the checkpoint would notice. An objective that reads codes
states their fingerprints as `trained_on`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from musiclm_jax.checkpoints import text_file
from musiclm_jax.checkpoints.buckets import Folder

FILE_NAME = 'trained_on.json'


@runtime_checkable
class ReadsCodes(Protocol):
  """An objective on codes.

  Attributes:
    trained_on: Fingerprint of what makes the codes, by the name of the stream.
  """

  trained_on: Mapping[str, str]


def of(training: Any) -> dict[str, str]:
  """The fingerprints of the codes that are read; none for a model of audio."""
  objective = getattr(training, 'objective', None)
  return dict(objective.trained_on) if isinstance(objective, ReadsCodes) else {}


def require_same(
  directory: Folder, trained_on: Mapping[str, str], *, resumes: bool
) -> None:
  """Keeps the fingerprints beside a run, and holds the run to them.

  Raises:
    ValueError: The run that is to be resumed was begun on other codes.
  """
  path = directory / FILE_NAME
  if resumes and path.exists():
    begun = json.loads(path.read_text(encoding='utf-8'))
    _require_equal(begun, trained_on, where=f'The run in {directory}')
  elif trained_on and jax.process_index() == 0:
    directory.mkdir(parents=True, exist_ok=True)
    text_file.write(path, json.dumps(dict(trained_on)))


def require_same_of_bundle(
  directory: str | os.PathLike[str],
  *,
  bundle: Mapping[str, str],
  trained_on: Mapping[str, str],
) -> None:
  """Raises if a warm start's weights know other codes of a common stream."""
  common = bundle.keys() & trained_on.keys()
  _require_equal(
    {name: bundle[name] for name in common},
    {name: trained_on[name] for name in common},
    where=f'The bundle in {directory}',
  )


def _require_equal(
  begun: Mapping[str, str], now: Mapping[str, str], *, where: str
) -> None:
  differing = [
    f'{name} codes of {begun.get(name)}, not of {now.get(name)}'
    for name in sorted({*begun, *now})
    if begun.get(name) != now.get(name)
  ]
  if differing:
    raise ValueError(
      f'{where} was trained on {"; ".join(differing)}. Give the corpus that it'
      ' was trained on, or train anew in another folder.'
    )
