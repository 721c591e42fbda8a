# SPDX-License-Identifier: Apache-2.0
"""The `musiclm` command: `musiclm VERB …` runs `musiclm_jax.cli.VERB`.

A verb is a file of this folder that defines `main(argv)`; there is no list of
them. A mistake of the user's ends in one line on stderr, not in a traceback:
`--traceback`, or MUSICLM_TRACEBACK=1, shows where it was raised.
"""

from __future__ import annotations

import ast
import errno
import functools
import importlib
import importlib.metadata
import logging
import os
import pathlib
import re
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import absl.logging

from musiclm_jax.cli import flags, host_memory, pod

_FOLDER = pathlib.Path(__file__).parent

# What a user can cause and mend. Anything else is a defect of ours, and its
# traceback is shown.
_EXPECTED = (ValueError, OSError, ImportError, MemoryError, FloatingPointError)

# Some libraries put a whole report into a message.
_MAX_CHARACTERS = 600


def main() -> NoReturn:
  """Entry point of the console script."""
  argv = sys.argv[1:]
  if not argv or argv[0] in ('-h', '--help'):
    print('usage: musiclm VERB …   (`musiclm VERB --help` tells more)\n')
    for verb, about in verbs().items():
      print(f'  {verb:<12} {about}')
    sys.exit(0 if argv else 2)
  run(argv[0], argv[1:])


def verbs() -> dict[str, str]:
  """Each verb and the first line of its help, read without importing it."""
  found = {}
  for path in sorted(_FOLDER.glob('*.py')):
    module = ast.parse(path.read_text(encoding='utf-8'))
    names = {getattr(node, 'name', None) for node in module.body}
    if 'main' in names and path.stem != 'main':
      found[path.stem] = (ast.get_docstring(module) or '').split('\n')[0]
  return found


def run(verb: str, argv: Sequence[str] | None = None) -> NoReturn:
  """Runs `verb` and exits: 1 after an error, 2 if the command was wrong.

  A verb that is to be started again exits with 75, or as if by a signal.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  show_traceback = '--traceback' in argv or 'MUSICLM_TRACEBACK' in os.environ
  argv = [arg for arg in argv if arg != '--traceback']
  host_memory.keep_freed_memory()
  log_to_stderr()
  if not show_traceback:
    _hush_afterthoughts()
  try:
    if verb not in verbs():
      raise flags.UsageError(f'no such verb{flags.nearest(verb, verbs())}')
    importlib.import_module(f'musiclm_jax.cli.{verb}').main(argv)
    sys.stdout.flush()
  except KeyboardInterrupt:
    _fail(verb, 'interrupted.', code=130)
  except BrokenPipeError:
    # The reader has gone (`| head`). Python would complain again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except Exception as error:
    # By name, not to import jax: out of memory, or a process of the pod died.
    from_the_machine = type(error).__name__ == 'JaxRuntimeError'
    defect = not (isinstance(error, _EXPECTED) or from_the_machine)
    if show_traceback or defect:
      traceback.print_exc()
    message = f'{"a defect of ours: " if defect else ""}{describe(error)}'
    code = 2 if isinstance(error, flags.UsageError) else 1
    if pod.has_lost_another(error):
      message = (
        'another process of the pod has ended, or cannot be reached; start the'
        f' pod again, and it goes on from its last checkpoint. JAX says: {message}'
      )
      code = pod.EXIT_LOST
    _fail(verb, message, code=code)
  sys.exit(0)


@functools.cache
def log_to_stderr() -> None:
  """Shows what this package logs, and the warnings of all others.

  Orbax says a page at each checkpoint.
  """
  package = str(_FOLDER.parent)

  def is_wanted(record: logging.LogRecord) -> bool:
    if record.name == 'asyncio':
      return False  # It shows errors that Orbax raises again, in full.
    ours = record.pathname.startswith(package)
    return ours or record.levelno >= logging.WARNING

  absl.logging.set_verbosity(absl.logging.INFO)
  handler = logging.StreamHandler()
  handler.addFilter(is_wanted)
  logging.getLogger().addHandler(handler)


def _hush_afterthoughts() -> None:
  """Keeps tracebacks of what fails beside the main thread from the user.

  On a full disk, TensorBoard's writer fails in its thread and again at exit,
  and Orbax's tasks when they are collected.
  """

  def in_a_thread(args: threading.ExceptHookArgs) -> None:
    logging.warning('%s: %s', args.thread.name, describe(args.exc_value))

  threading.excepthook = in_a_thread
  sys.unraisablehook = lambda args: None


def describe(error: BaseException) -> str:
  """The error in one line."""
  # gin appends where it was called from.
  text = str(error).split('\n  In call to configurable')[0]
  text = re.sub(r'^\[Errno \d+\] ', '', text)
  if text == os.strerror(errno.ENOSPC):
    text += '; free some, and give the same command again.'
  elif isinstance(error, ModuleNotFoundError) and error.name:
    text = f'needs the package {error.name!r}{_extra_with(error.name)}'
  text = ' '.join(text.split()) or type(error).__name__
  if len(text) > _MAX_CHARACTERS:
    text = text[:_MAX_CHARACTERS] + '…'
  frames = traceback.extract_tb(error.__traceback__)
  if frames and f'{os.sep}musiclm_jax{os.sep}' not in frames[-1].filename:
    text += ' (--traceback shows where)'
  return text


def _extra_with(module: str) -> str:
  """How to install the package of `module`, if an extra of ours has it."""
  wanted = module.partition('.')[0].replace('_', '-').lower()
  try:
    requirements = importlib.metadata.requires('musiclm_jax') or ()
  except importlib.metadata.PackageNotFoundError:
    requirements = ()  # A checkout that was never installed.
  extras = {}
  for requirement in requirements:
    package, _, condition = requirement.partition(';')
    package = re.match(r'[\w.-]+', package)[0].replace('_', '-').lower()
    extra = re.search(r'extra == .(\w+)', condition)
    if extra and package.startswith(wanted):
      extras.setdefault(package, extra[1])
  if not extras:
    return ', which is not installed.'
  # 'onnx' is no part of 'onnxruntime', though 'visqol' is of 'visqol-python'.
  extra = extras.get(wanted) or next(iter(extras.values()))
  return f": pip install 'musiclm_jax[{extra}]'"


def _fail(verb: str, message: str, *, code: int) -> NoReturn:
  where = pod.name_of_process()
  print(f'musiclm {verb}{where}: {message}', file=sys.stderr, flush=True)
  threading.excepthook = lambda args: None  # What fails now fails for this.
  if pod.is_joined():
    # At exit JAX waits for the other processes, and they wait for this one.
    os._exit(code)
  sys.exit(code)
