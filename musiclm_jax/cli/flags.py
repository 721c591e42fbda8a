# SPDX-License-Identifier: Apache-2.0
"""Flags of the verbs: argparse, with t5x's gin flags and one-line errors.

`--gin_file=FILE` may be given several times, `--gin.NAME=value` binds one
parameter or macro after the files, and `--gin_search_paths=A,B` says where
files are looked for, as in t5x.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_BINDING_PREFIX = '--gin.'


class UsageError(ValueError):
  """The command line or its gin files ask for what does not exist."""


def nearest(word: str, known: Iterable[str]) -> str:
  """What `word` was likely meant to be, as the end of a sentence."""
  known = sorted(set(known) - {''})
  close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
  if close:
    return f'; did you mean {close[0]!r}?'
  return f'; there are: {", ".join(known)}.' if known else '; there are none.'


class Parser(argparse.ArgumentParser):
  """An argument parser that raises `UsageError` where argparse would exit.

  After `add_gin_flags`, the parsed flags hold `gin_file`, `gin_search_paths`
  and `gin_bindings`: lists of text in the order of the command line.
  """

  def __init__(self, **kwargs: Any):
    kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
    super().__init__(allow_abbrev=False, **kwargs)
    self._takes_gin = False

  def add_gin_flags(self) -> None:
    self._takes_gin = True
    group = self.add_argument_group('configuration, as in t5x')
    group.add_argument(
      '--gin_file',
      action='append',
      default=[],
      metavar='FILE',
      help='a gin file, in the current folder or in gin/; repeatable',
    )
    group.add_argument(
      '--gin_search_paths',
      type=lambda paths: paths.split(','),
      default=[],
      metavar='DIR,DIR',
      help='more folders to look for gin files in',
    )
    group.add_argument(
      '--gin.NAME',
      dest='gin_bindings',
      default=[],
      metavar='VALUE',
      help='binds a macro or a parameter after the files; text takes quotes of'
      ' its own: --gin.MODEL_DIR="\'runs/a\'"',
    )

  def parse_known_args(
    self,
    args: Sequence[str] | None = None,
    namespace: argparse.Namespace | None = None,
  ) -> tuple[argparse.Namespace, list[str]]:
    """Gathers `--gin.NAME=value`; an argument that nobody knows is an error."""
    args = list(args or ())
    bindings = []
    if self._takes_gin:
      bindings = [_binding(a) for a in args if a.startswith(_BINDING_PREFIX)]
      args = [a for a in args if not a.startswith(_BINDING_PREFIX)]
    flags, unknown = super().parse_known_args(args, namespace)
    if unknown:
      name = unknown[0].split('=')[0]
      known = [name for act in self._actions for name in act.option_strings]
      self.error(f'unknown argument {name!r}{nearest(name, known)}')
    if bindings:
      flags.gin_bindings = bindings
    return flags, []

  def error(self, message: str) -> NoReturn:
    raise UsageError(f'{message} (`{self.prog} --help` tells more)')


def _binding(arg: str) -> str:
  """`--gin.a.b=1` as the gin statement `a.b = 1`."""
  name, _, value = arg.removeprefix(_BINDING_PREFIX).partition('=')
  if not value:
    raise UsageError(f'{arg} has no value; write {_BINDING_PREFIX}{name}=VALUE')
  return f'{name} = {value}'
