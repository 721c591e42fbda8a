# SPDX-License-Identifier: Apache-2.0
import importlib
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

from musiclm_jax.cli import flags, setup

ROOT = pathlib.Path(__file__).parents[2]

TOY = """
import dataclasses

@dataclasses.dataclass(frozen=True, kw_only=True)
class Codec:
  num_levels: int
  strides: tuple = (2, 3)

def adam(*, rate, schedule=None):
  return ('adam', rate)

def adafactor(*, rate):
  return ('adafactor', rate)

def warm(step, *, warmup=5):
  return step / warmup

def train_toy(*, codec, optimizer, num_steps, seed=0, notes=None):
  return dict(codec=codec, optimizer=optimizer, num_steps=num_steps, seed=seed)
"""

MODEL = """
from __gin__ import dynamic_registration
import toy_trainer
toy_trainer.Codec.num_levels = %NUM_LEVELS
NUM_LEVELS = 3
"""

RUN = """
# Required: NUM_STEPS.
from __gin__ import dynamic_registration
import toy_trainer
include 'models/toy.gin'
toy_trainer.train_toy.codec = @toy_trainer.Codec()
toy_trainer.train_toy.optimizer = @generator/toy_trainer.adam()
toy_trainer.train_toy.num_steps = %NUM_STEPS
generator/toy_trainer.adam.rate = 0.25
NUM_STEPS = %gin.REQUIRED
"""


@pytest.fixture(scope='module')
def toy_trainer(tmp_path_factory):
  """A module that the package knows nothing of, imported once: gin keeps it."""
  folder = tmp_path_factory.mktemp('toy')
  (folder / 'toy_trainer.py').write_text(TOY)
  sys.path.insert(0, str(folder))
  yield importlib.import_module('toy_trainer')
  sys.path.remove(str(folder))


@pytest.fixture
def toy(toy_trainer, tmp_path, monkeypatch):
  """`configure` on a folder of gin files, and lines to add to `run.gin`."""
  (tmp_path / 'gin' / 'models').mkdir(parents=True)
  (tmp_path / 'gin' / 'models' / 'toy.gin').write_text(MODEL)
  (tmp_path / 'gin' / 'run.gin').write_text(RUN)
  monkeypatch.setattr(setup, 'gin_directory', lambda: tmp_path / 'gin')

  def configure(*argv, run=None, supplied=()):
    if run:
      (tmp_path / 'gin' / 'run.gin').write_text(RUN + textwrap.dedent(run))
    parser = flags.Parser(prog='musiclm try')
    parser.add_gin_flags()
    options = parser.parse_args(['--gin_file=run.gin', *argv])
    return setup.configure(
      options, root=toy_trainer.train_toy, supplied=supplied
    )

  return configure


def test_files_then_flags_bind_the_root(toy):
  got = toy('--gin.NUM_STEPS=11', '--gin.NUM_LEVELS=7')()
  assert got['num_steps'] == 11
  assert got['codec'].num_levels == 7
  assert got['optimizer'] == ('adam', 0.25)


def test_a_flag_may_bind_a_parameter_by_its_short_name(toy):
  got = toy('--gin.NUM_STEPS=11', '--gin.train_toy.seed=13')()
  assert got['seed'] == 13


def test_what_the_verb_passes_wins(toy):
  assert toy('--gin.NUM_STEPS=11')(num_steps=5)['num_steps'] == 5


def test_the_operative_config_is_a_gin_file_that_repeats_the_run(toy, tmp_path):
  first = toy('--gin.NUM_STEPS=11', '--gin.NUM_LEVELS=7')()
  written = setup.operative_config()
  assert 'toy_trainer.Codec.strides = (2, 3)' in written  # A default.
  (tmp_path / 'gin' / 'run.gin').write_text(written)
  assert toy()() == first


def test_a_file_is_found_here_then_on_the_search_path_then_in_gin(
  toy, tmp_path, monkeypatch
):
  for folder in ('here', 'there'):
    (tmp_path / folder).mkdir()
  monkeypatch.chdir(tmp_path / 'here')
  more = ['--gin_search_paths=../there', '--gin_file=more.gin']
  steps = []
  for folder, number in (('gin', 2), ('there', 3), ('here', 5)):
    path = tmp_path / folder / 'more.gin'
    path.write_text(f'NUM_STEPS = {number}')
    steps.append(toy(*more)()['num_steps'])
  assert steps == [2, 3, 5]


def test_an_argument_that_the_verb_supplies_need_not_be_bound(toy, tmp_path):
  run = RUN.replace('toy_trainer.train_toy.num_steps = %NUM_STEPS', '').replace(
    'NUM_STEPS = %gin.REQUIRED', ''
  )
  (tmp_path / 'gin' / 'run.gin').write_text(run)
  with pytest.raises(
    flags.UsageError, match='binds toy_trainer.train_toy.num_step'
  ):
    toy()
  assert toy(supplied=['num_steps'])(num_steps=2)['num_steps'] == 2


@pytest.mark.parametrize(
  ('run', 'argv', 'message'),
  [
    (None, [], '^NUM_STEPS is required: give it by --gin.NUM_STEPS=VALUE'),
    (
      None,
      ['--gin.NUM_STEPS=1', '--gin.NUM_LEVEL=2'],
      "^nothing reads the macro NUM_LEVEL; did you mean 'NUM_LEVELS'",
    ),
    (
      'toy_trainer.train_toy.num_step = 1',
      [],
      "^run.gin:11: toy_trainer.train_toy has no parameter 'num_step'; did you mean"
      " 'num_steps'",
    ),
    (
      'toy_trainer.train_ty.seed = 1',
      [],
      "^run.gin:11: toy_trainer.train_ty: toy_trainer has no 'train_ty'; did you mean"
      " 'train_toy'",
    ),
    (
      'toy.train.seed = 1',
      [],
      "^run.gin:11: 'toy' is not imported in this file",
    ),
    (
      'toy_trainer.train_toy.seed = %NUM_STEP',
      ['--gin.NUM_STEPS=1'],
      "^the macro NUM_STEP has no value; did you mean 'NUM_STEPS'",
    ),
    (
      'toy_trainer.train_toy.seed = %gin.REQUIRED',
      ['--gin.NUM_STEPS=1'],
      '^train_toy.seed is required',
    ),
    (
      'generater/toy_trainer.adam.rate = 1',
      ['--gin.NUM_STEPS=1'],
      "^nothing calls toy_trainer.adam in the scope 'generater'; did you mean"
      " 'generator'",
    ),
    (
      'toy_trainer.train_toy.optimizer = 3',
      ['--gin.NUM_STEPS=1'],
      "^nothing calls toy_trainer.adam in the scope 'generator'",
    ),
    (
      # A macro is evaluated in a scope of its own.
      'generator/toy_trainer.adam.schedule = %SCHEDULE\n'
      'SCHEDULE = @toy_trainer.warm\n'
      'generator/toy_trainer.warm.warmup = 2',
      ['--gin.NUM_STEPS=1'],
      "^nothing calls toy_trainer.warm in the scope 'generator'",
    ),
    (
      'toy_trainer.train_toy.optimizer = @generator/toy_trainer.adafactor()',
      ['--gin.NUM_STEPS=1'],
      '^nothing binds generator/toy_trainer.adafactor.rate',
    ),
    (
      'toy_trainer.warm.warmup = %WARMUP\nWARMUP = 2',
      ['--gin.NUM_STEPS=1'],
      '^nothing reads the macro WARMUP',
    ),
    (
      'toy_trainer.warm.warmup = 2',
      ['--gin.NUM_STEPS=1', '--gin.toy_trainer.warm.warmup=3'],
      '^--gin.toy_trainer.warm.warmup: this run does not use toy_trainer.warm',
    ),
    (
      None,
      ['--gin.NUM_STEPS=1', '--gin.toy_trainer.train_ty.seed=3'],
      "^no gin file names 'toy_trainer.train_ty'; did you mean 'toy_trainer.train_toy'",
    ),
    (None, ['--gin.NUM_STEPS=ten'], 'text takes quotes of its own'),
    (
      None,
      ['--gin_file=rum.gin'],
      "no gin file 'rum.gin'; did you mean 'run.gi",
    ),
    (
      "include 'models/toi.gin'",
      [],
      "^run.gin:11: there is no gin file 'models/toi.gin'; did you mean"
      " 'models/toy.gin'",
    ),
    ('import toy_trainr', [], "^run.gin:11: No module named 'toy_trainr'"),
  ],
)
def test_a_mistake_is_one_line_that_says_where_and_what_was_meant(
  toy, run, argv, message
):
  with pytest.raises(flags.UsageError, match=message) as raised:
    toy(*argv, run=run)
  assert '\n' not in str(raised.value)
  assert len(str(raised.value)) < 300


def test_a_callable_that_is_passed_on_is_read_too(toy):
  toy(
    '--gin.NUM_STEPS=1',
    run="""
    generator/toy_trainer.adam.schedule = @toy_trainer.warm
    generator/toy_trainer.warm.warmup = %WARMUP
    WARMUP = 2
    """,
  )


def test_a_root_that_no_file_names_is_said_so():
  parser = flags.Parser(prog='musiclm try')
  parser.add_gin_flags()
  with pytest.raises(flags.UsageError, match='no gin file names test_a_root'):
    setup.configure(
      parser.parse_args([]),
      root=test_a_root_that_no_file_names_is_said_so,
    )


def test_the_files_of_the_checkout_are_found():
  assert setup.gin_directory() == ROOT / 'gin'
  assert not (ROOT / 'gin' / '__init__.py').exists()


@pytest.mark.slow
def test_the_wheel_carries_the_gin_files_and_finds_them(tmp_path):
  source, installed = tmp_path / 'source', tmp_path / 'installed'
  for name in ('musiclm_jax', 'gin', 'data'):
    shutil.copytree(ROOT / name, source / name)
  for name in ('setup.py', 'pyproject.toml', 'README.md'):
    shutil.copy(ROOT / name, source)
  pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
  subprocess.run(
    [*pip, '--no-build-isolation', '--target', installed, source], check=True
  )
  code = (
    'from musiclm_jax.cli import setup; folder = setup.gin_directory();'
    ' print(folder); print(*sorted(folder.rglob("*.gin")))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=installed,
    check=True,
    capture_output=True,
    text=True,
  )
  folder, *files = done.stdout.split()
  assert folder == str(installed / 'musiclm_jax' / '_gin')
  expected = sorted((ROOT / 'gin').rglob('*.gin'))
  assert [pathlib.Path(file).relative_to(folder) for file in files] == [
    file.relative_to(ROOT / 'gin') for file in expected
  ]
  datasets = installed / 'musiclm_jax' / '_datasets'
  for readme in (ROOT / 'data').rglob('README.md'):
    assert (datasets / readme.relative_to(ROOT / 'data')).is_file()
