# SPDX-License-Identifier: Apache-2.0
"""The dispatcher alone; each kind has its own file in `evaluations/`."""

import pathlib
import types

import pytest

from musiclm_jax.cli import evaluate, flags


def test_every_file_of_the_folder_is_a_kind_with_help(capsys):
  folder = pathlib.Path(evaluate.evaluations.__file__).parent
  files = {path.stem for path in folder.glob('*.py')} - {'__init__'}
  assert set(evaluate.kinds()) == files
  with pytest.raises(SystemExit):
    evaluate.main(['--help'])
  told = capsys.readouterr().out
  for kind, module in evaluate.kinds().items():
    assert kind in told
    assert module.__doc__.split()[0] in told


def test_a_kind_gets_its_own_options(monkeypatch):
  seen = []
  probe = types.ModuleType('probe', 'A probe.')
  probe.add_arguments = lambda parser: parser.add_argument('--depth', type=int)
  probe.run = seen.append
  monkeypatch.setattr(evaluate, 'kinds', lambda: {'probe': probe})
  evaluate.main(['probe', '--depth=3'])
  assert seen[0].depth == 3


def test_an_unknown_kind_is_a_wrong_command():
  with pytest.raises(flags.UsageError, match="'code'"):
    evaluate.main(['code'])
