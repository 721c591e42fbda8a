# SPDX-License-Identifier: Apache-2.0
"""What gin's errors mean, in one line: the place, and the name that was meant.

Some of gin's messages repeat the whole configuration or a chain of includes,
and its exceptions carry nothing but that text, so the text is what is read.
"""

from __future__ import annotations

import inspect
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from gin import config as gin_config

from musiclm_jax.cli.flags import nearest

_PLACE = re.compile(r'\n  In (?:file "(.+?)", line (\d+)|bindings string)')


def explain(error: Exception, *, folders: Sequence[str]) -> str:
  """One line for what gin raised while it parsed; files are below `folders`."""
  text = str(error)
  place = _PLACE.search(text)
  message = text[: place.start()] if place else text
  for pattern, rewrite in _REWRITES:
    if match := re.match(pattern, message, flags=re.DOTALL):
      message = rewrite(match, folders)
      break
  message = ' '.join(message.split())
  if place and place[1]:
    return f'{_short(place[1], folders)}:{place[2]}: {message}'
  return message


def _short(file: str, folders: Sequence[str]) -> str:
  """The path as one writes it in `--gin_file`."""
  for folder in filter(None, folders):
    if pathlib.Path(file).is_relative_to(folder):
      return str(pathlib.Path(file).relative_to(folder))
  return file


def _unknown_parameter(match: re.Match, folders: Sequence[str]) -> str:
  name, parameter = match.groups()
  wrapped = gin_config._REGISTRY.get_match(name).wrapped
  known = inspect.signature(wrapped).parameters
  return f'{name} has no parameter {parameter!r}{nearest(parameter, known)}'


def _unknown_attribute(match: re.Match, folders: Sequence[str]) -> str:
  name, module, attribute = match.groups()
  known = [n for n in vars(sys.modules[module]) if not n.startswith('_')]
  return f'{name}: {module} has no {attribute!r}{nearest(attribute, known)}'


def _not_imported(match: re.Match, folders: Sequence[str]) -> str:
  # An import does not cross an include, which surprises everyone once.
  return (
    f'{match[1]!r} is not imported in this file; add `from musiclm_jax.… import'
    f' {match[1]}` to it.'
  )


def _unknown_configurable(match: re.Match, folders: Sequence[str]) -> str:
  known = [
    # As gin files write them: the module and the name.
    '.'.join(selector.split('.')[-2:])
    for selector, _ in gin_config._REGISTRY.items()
    if not selector.startswith('gin.')
  ]
  return f'no gin file names {match[1]!r}{nearest(match[1], known)}'


def _unnamed_root(match: re.Match, folders: Sequence[str]) -> str:
  return f'no gin file names {match[1]}; give one by --gin_file=FILE.'


def _missing_macro(match: re.Match, folders: Sequence[str]) -> str:
  macros = [s for s, selector in gin_config._CONFIG if selector == 'gin.macro']
  return f'the macro {match[1]} has no value{nearest(match[1], macros)}'


def _required_macro(match: re.Match, folders: Sequence[str]) -> str:
  return f'{match[1]} is required: give it by --gin.{match[1]}=VALUE.'


def _required_parameter(match: re.Match, folders: Sequence[str]) -> str:
  return f'{match[1]} is required, and nothing binds it.'


def _not_a_value(match: re.Match, folders: Sequence[str]) -> str:
  return (
    'a value is a Python literal, @name, @name() or %MACRO, and text takes'
    f' quotes of its own: --gin.MODEL_DIR="\'runs/a\'" ({match[0]}).'
  )


def _missing_file(match: re.Match, folders: Sequence[str]) -> str:
  known = [
    str(path.relative_to(folder))
    for folder in filter(None, folders)
    for path in pathlib.Path(folder).rglob('*.gin')
  ]
  return f'there is no gin file {match[1]!r}{nearest(match[1], known)}'


# The messages of gin-config 0.5; any other is passed on as it stands.
_REWRITES: tuple[tuple[str, Callable[[re.Match, Sequence[str]], str]], ...] = (
  (
    r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'",
    _unknown_parameter,
  ),
  (
    r"Couldn't resolve selector (\S+); <module '(.+?)'.*no attribute (\w+)",
    _unknown_attribute,
  ),
  (r"'(\w+)' was not provided by an import", _not_imported),
  (r"No configurable matching (?:reference )?'@?(.+?)'", _unknown_configurable),
  (r"Could not find <\w+ '?(\S+?)'?[ >]", _unnamed_root),
  (r"No bindings specified for '(\S+)/gin.macro'", _missing_macro),
  (r'(\S+)/macro.value set to `%gin.REQUIRED`', _required_macro),
  (r'(\S+) set to `%gin.REQUIRED`', _required_parameter),
  (
    r'(?s).*(?:Failed to parse token|Unable to parse value|Expected newline).*',
    _not_a_value,
  ),
  (r'Unable to open file: (.+?)\. Searched', _missing_file),
)
