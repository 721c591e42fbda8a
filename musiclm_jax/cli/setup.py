# SPDX-License-Identifier: Apache-2.0
"""Reads gin files into one configured callable.

Gin files name plain functions and classes through `dynamic_registration`. What
a run reads is then exactly what references reach from its root, which lets
`configure` refuse what gin passes over in silence: a macro, a scope or a
binding of the command line that nothing reads, and an argument left unbound.
"""

from __future__ import annotations

import argparse
import collections
import inspect
import os
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gin
from gin import config as gin_config
from gin import config_parser

import musiclm_jax
from musiclm_jax.cli import gin_errors
from musiclm_jax.cli.flags import UsageError, nearest

_MACRO = 'gin.macro'


def gin_directory() -> pathlib.Path:
  """Where the project's gin files are: in a checkout, or in the wheel.

  An editable install has no `_gin`; beside a wheel's package a folder `gin`
  would be the gin library.
  """
  package = pathlib.Path(musiclm_jax.__file__).parent
  packaged = package / '_gin'
  return packaged if packaged.is_dir() else package.parent / 'gin'


def configure(
  flags: argparse.Namespace,
  *,
  root: Callable[..., Any],
  supplied: Collection[str] = (),
) -> Callable[..., Any]:
  """Parses the gin flags and gives back `root` with its parameters bound.

  Args:
    flags: Parsed by a `flags.Parser` with gin flags.
    root: The function or class that the verb calls, as gin files name it.
    supplied: Arguments that the verb passes itself.

  Raises:
    UsageError: One line, with the place, and the nearest name where it helps.
  """
  _parse(flags, finalize=True)
  try:
    configured = gin.get_configurable(root)
  except Exception as error:
    raise UsageError(
      gin_errors.explain(error, folders=_folders(flags))
    ) from error
  reached = _reach(root, supplied=supplied)
  _require_read(reached, bindings=flags.gin_bindings)
  return configured


def required_macros(flags: argparse.Namespace) -> set[str]:
  """Macros that the gin files require and the command does not give."""
  _parse(flags, finalize=False)
  return {
    scope
    for (scope, selector), bound in gin_config._CONFIG.items()
    if selector == _MACRO and repr(bound['value']) == '%gin.REQUIRED'
  }


def operative_config() -> str:
  """What took effect so far, defaults included, as a gin file to run again."""
  return gin.operative_config_str()


def _folders(flags: argparse.Namespace) -> list[str]:
  """Where gin files are looked for."""
  return ['', *flags.gin_search_paths, str(gin_directory())]


def _parse(flags: argparse.Namespace, *, finalize: bool) -> None:
  """Reads the files and the bindings in place of all that was read before."""
  gin.clear_config()
  # Gin has no public way to set these, only to lengthen them. Its other reader
  # takes paths for Python packages, and logs an error for each that is none.
  gin_config._LOCATION_PREFIXES[:] = _folders(flags)
  gin_config._FILE_READERS[:] = [(open, os.path.isfile)]
  try:
    gin.parse_config_files_and_bindings(
      flags.gin_file, flags.gin_bindings, finalize_config=finalize
    )
  # Gin raises a dozen types, NameError and SyntaxError among them.
  except Exception as error:
    raise UsageError(
      gin_errors.explain(error, folders=_folders(flags))
    ) from error


def _reach(
  root: Callable[..., Any], *, supplied: Collection[str]
) -> set[tuple[str, str]]:
  """(scope, selector) of every callable that a call of `root` may make."""
  reached = set()
  waiting = [('', gin_config._inverse_lookup(root).selector, supplied)]
  while waiting:
    scope, selector, given = waiting.pop()
    if (scope, selector) in reached:
      continue
    bound = gin.get_bindings('/'.join(filter(None, (scope, selector))), False)
    if given is not None:
      _require_bound(scope, selector, {*bound, *given})
    reached.add((scope, selector))
    for reference in gin_config.iterate_references(bound):
      waiting.append(
        (
          '/'.join(reference.scopes) or scope,
          reference.configurable.selector,
          # Gin calls `@name()` without arguments; `@name` is called by code.
          () if reference.evaluate else None,
        )
      )
  return reached


def _require_bound(scope: str, selector: str, names: Collection[str]) -> None:
  """Raises if gin would call `selector` without an argument that it needs."""
  wrapped = gin_config._REGISTRY[selector].wrapped
  missing = [
    parameter.name
    for parameter in inspect.signature(wrapped).parameters.values()
    if parameter.default is parameter.empty
    and parameter.kind
    in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    and parameter.name not in names
  ]
  if missing:
    name = '/'.join(filter(None, (scope, selector)))
    raise UsageError(
      f'nothing binds {", ".join(f"{name}.{arg}" for arg in missing)}.'
    )


def _require_read(
  reached: set[tuple[str, str]], *, bindings: Sequence[str]
) -> None:
  """Raises for a macro, a scope or a flag that the run would pass over."""
  scopes_of = collections.defaultdict(set)
  for scope, selector in reached:
    scopes_of[selector].add(scope)
  for scope, selector in gin_config._CONFIG:
    scopes = scopes_of[selector]
    if selector == _MACRO and scope not in scopes:
      raise UsageError(
        f'nothing reads the macro {scope}{nearest(scope, scopes)}'
      )
    # Without a scope it may be a default for what this run does not use.
    if scope and not _is_within(scope, scopes):
      raise UsageError(
        f'nothing calls {selector} in the scope {scope!r}'
        f'{nearest(scope, scopes)}'
      )
  for binding in bindings:
    key = binding.split('=')[0].strip()
    scope, name, parameter = config_parser.parse_binding_key(key)
    if parameter:
      selector = gin_config._REGISTRY.get_match(name).selector
      if not _is_within(scope, scopes_of[selector]):
        raise UsageError(f'--gin.{key}: this run does not use {name}.')


def _is_within(scope: str, reached: Collection[str]) -> bool:
  """Whether a binding in `scope` is read from one of the `reached` scopes."""
  if not scope:
    return bool(reached)
  return any(f'{other}/'.startswith(f'{scope}/') for other in reached)
