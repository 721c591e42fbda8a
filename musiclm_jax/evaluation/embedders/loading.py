# SPDX-License-Identifier: Apache-2.0
"""An embedder by name: a file of this folder that has a `load`."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pkgutil

from musiclm_jax.evaluation.embedders import base


def names() -> tuple[str, ...]:
  """What can be loaded."""
  folder = pathlib.Path(__file__).parent
  found = (module.name for module in pkgutil.iter_modules([str(folder)]))
  here = pathlib.Path(__file__).stem
  return tuple(
    name
    for name in sorted(found)
    if name != here and hasattr(_module(name), 'load')
  )


def load(name: str, path: str | None = None) -> base.Embedder:
  """The embedder of a file of this folder.

  Args:
    name: One of `names`.
    path: Of its weights, for one whose weights come with no package.

  Raises:
    ValueError: There is none of that name, or it lacks a path, or has one.
  """
  if name not in names():
    raise ValueError(
      f'There is no embedder {name!r}; there are {", ".join(names())}.'
    )
  of_module = _module(name).load
  wants_path = bool(inspect.signature(of_module).parameters)
  if wants_path and path is None:
    raise ValueError(f'{name} needs its weights: write {name}=PATH.')
  if path is not None and not wants_path:
    raise ValueError(
      f'{name} has its weights in a package: write {name} without {path!r}.'
    )
  return of_module(path) if wants_path else of_module()


def _module(name: str) -> object:
  return importlib.import_module(f'{__package__}.{name}')
