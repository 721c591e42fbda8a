# SPDX-License-Identifier: Apache-2.0
"""Whose codes a run is trained on: it goes on with those, or not at all.

Codes of another tokenizer have the same shapes and mean something else, so
neither the step nor the checkpoint would notice. An objective that reads codes
states their fingerprints as `trained_on`. One that trains only what comes after
the codes of a tokenizer keeps those of the bundle that it was started from.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from musiclm_jax.checkpoints import bundle as bundles
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.checkpoints import text_file
from musiclm_jax.checkpoints.buckets import Folder
from musiclm_jax.checkpoints.warm_start import WarmStarted
from musiclm_jax.streams import TokenStream

FILE_NAME = 'trained_on.json'
DERIVED_FILE = 'derived_from.json'

# Of a config: in others the same weights make other codes.
_TYPES = ('dtype', 'param_dtype')


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


def derived_from(
  directory: Folder,
  *,
  parts: tuple[str, ...] | None,
  config: Mapping[str, Any],
  warm_start: str | None,
  resumes: bool,
) -> str | None:
  """The token space that a run keeps; None if it makes one of its own.

  It is written beside the run, with the types that its codes are made in, for
  checkpoints do not tell whose weights they hold.

  Args:
    directory: Of the run.
    parts: What alone is trained; None for everything.
    config: What would be published, as JSON.
    warm_start: The bundle that a new run begins with.
    resumes: Whether it goes on from a checkpoint instead.

  Raises:
    ValueError: There is no bundle to start from, or the run that is to be
      resumed was begun training other parts or in other types.
  """
  path = directory / DERIVED_FILE
  types = {name: config[name] for name in _TYPES if name in config}
  if resumes:
    begun = json.loads(path.read_text()) if path.exists() else None
    if isinstance(begun, str):  # Of a run from before types were kept.
      begun = {'token_space': begun, 'types': types}
    if (begun is None) != (parts is None):
      whole, alone = 'the whole model', 'a part of it alone'
      raise ValueError(
        f'The run in {directory} was begun training'
        f' {whole if begun is None else alone} and cannot go on with'
        f' {whole if parts is None else alone}; train in another folder.'
      )
    if begun is not None and begun['types'] != types:
      raise ValueError(
        f'The run in {directory} keeps codes that are made with'
        f' {begun["types"]}, and {types} would make others; go on with the'
        ' types that it was begun with.'
      )
    return begun and begun['token_space']
  if parts is None:
    token_space = None
  elif warm_start is None:
    raise ValueError(
      f'Only {", ".join(parts)} is trained, after codes that stay as they are;'
      ' give the bundle that makes them as warm_start (gin: include'
      " 'runs/warm_start.gin' and set WARM_START)."
    )
  else:
    token_space = bundles.load(warm_start).token_space
  if jax.process_index() == 0:
    if token_space is None:
      path.unlink(missing_ok=True)  # Of a run that never came to a checkpoint.
    else:
      directory.mkdir(parents=True, exist_ok=True)
      kept = {'token_space': token_space, 'types': types}
      text_file.write(path, json.dumps(kept))
  return token_space


def require_codes_kept(
  started: WarmStarted,
  *,
  bundle: bundles.Bundle,
  contents: bundles.BundleContents,
  parts: tuple[str, ...],
) -> None:
  """Raises if a warm start did not take all that makes the bundle's codes.

  Args:
    started: What it took.
    bundle: Of what.
    contents: What the model that was started would publish.
    parts: What will be trained alone.
  """
  free = tuple(f'params/{part}/' for part in parts)
  offered = fingerprints.flatten(bundle.weights)
  made = fingerprints.flatten(started.variables)
  narrowed = (p for p in started.taken if made[p].dtype != offered[p].dtype)
  lost = [
    path
    for path in (*started.kept, *started.unused, *narrowed)
    if not path.startswith(free)
  ]
  wanted, got = _codes(contents), _codes(bundle)
  if lost or wanted != got:
    raise ValueError(
      f'{", ".join(parts)} of {bundle.directory} cannot be trained alone, for'
      f' its codes would not stay: it makes {got}, wanted are {wanted};'
      f' {len(lost)} weights are not the same here'
      f' ({", ".join(lost[:3]) or "none"}). Give the bundle of a whole model,'
      ' its sizes and its dtype.'
    )


def _codes(model: bundles.BundleContents) -> tuple[TokenStream | None, str]:
  """Whoever makes them; and what in, for bfloat16 makes others."""
  stream = model.stream_out
  bare = stream and dataclasses.replace(stream, fingerprint=None)
  return bare, f'computed in {getattr(model.config, "dtype", "its own type")}'


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
