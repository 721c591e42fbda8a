# SPDX-License-Identifier: Apache-2.0
"""The dispatcher alone; each kind has its own file in `evaluations/`."""

import json
import pathlib
import types

import pytest

from musiclm_jax.cli import evaluate, flags
from tests.evaluation import toy_codec


def test_every_file_of_the_folder_is_a_kind_with_help(capsys):
  folder = pathlib.Path(evaluate.evaluations.__file__).parent
  files = {path.stem for path in folder.glob('[!_]*.py')}
  assert set(evaluate.kinds()) == files
  with pytest.raises(SystemExit):
    evaluate.main(['--help'])
  told = capsys.readouterr().out
  for kind, module in evaluate.kinds().items():
    assert kind in told
    assert module.__doc__.split()[0] in told


def test_a_kind_gets_its_own_options_and_its_origin_is_kept(
  monkeypatch, tmp_path
):
  def add_arguments(parser):
    parser.add_argument('--seed', type=int)
    parser.add_argument('--model', type=lambda text: text.split(','))
    parser.add_argument('--output')

  seen = []
  probe = types.ModuleType('probe', 'A probe.')
  probe.add_arguments = add_arguments
  probe.run = seen.append
  monkeypatch.setattr(evaluate, 'kinds', lambda: {'probe': probe})
  fingerprint = toy_codec.publish(tmp_path / 'codec')
  argv = [f'--model={tmp_path / "codec"},elsewhere', f'--output={tmp_path}']
  evaluate.main(['probe', '--seed=3', *argv])
  assert seen[0].seed == 3
  assert json.loads((tmp_path / 'probe.origin.json').read_text()) == {
    'kind': 'probe',
    'command': ' '.join(['musiclm evaluate probe --seed=3', *argv]),
    'seed': 3,
    'fingerprints': {str(tmp_path / 'codec'): fingerprint},
  }


def test_without_the_option_the_seed_is_that_of_all_intervals(
  monkeypatch, tmp_path
):
  probe = types.ModuleType('probe', 'A probe.')
  probe.add_arguments = lambda parser: parser.add_argument('--output')
  probe.run = lambda options: None
  monkeypatch.setattr(evaluate, 'kinds', lambda: {'probe': probe})
  evaluate.main(['probe', f'--output={tmp_path}'])
  origin = json.loads((tmp_path / 'probe.origin.json').read_text())
  assert origin['seed'] == 0


def test_an_unknown_kind_is_a_wrong_command():
  with pytest.raises(flags.UsageError, match="'code'"):
    evaluate.main(['code'])
