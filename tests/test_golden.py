# SPDX-License-Identifier: Apache-2.0
"""What each experiment sets and builds, as text that a review can read.

`tests/golden/<experiment>.txt` holds the operative config, defaults included,
and every parameter. After a change that means to change them:

  UPDATE_GOLDEN=1 pytest tests/test_golden.py
"""

import importlib
import inspect
import math
import os
import pathlib
import pprint
import re
import subprocess
import sys

import gin
import jax
import pytest
from flax.core import meta
from gin import config as gin_config

from musiclm_jax.cli import flags, setup
from musiclm_jax.data import silence
from musiclm_jax.planning import abstract
from musiclm_jax.training import loop

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / 'tests' / 'golden'
# By the verb, and no matter of a config.
SUPPLIED = ('gin_config', 'seconds_at_peak')
EXPERIMENTS = sorted(
  path.stem for path in (ROOT / 'gin' / 'experiments').glob('*.gin')
)


@pytest.fixture(scope='session')
def texts(tmp_path_factory):
  """The text of every experiment.

  Made by another process: the run-time type checks of this one wrap every
  function, and gin then sees no defaults.
  """
  folder = tmp_path_factory.mktemp('golden')
  code = (
    'import sys; from tests import test_golden;'
    ' test_golden.write_texts(sys.argv[1])'
  )
  subprocess.run([sys.executable, '-c', code, folder], cwd=ROOT, check=True)
  return {path.stem: path.read_text() for path in folder.glob('*.txt')}


def write_texts(folder):
  """Writes `<experiment>.txt` for each; a stand-in for each required macro."""
  folder = pathlib.Path(folder)
  stand_ins = silence.write_all(folder)
  for experiment in EXPERIMENTS:
    text = golden_text(experiment, stand_ins)
    (folder / f'{experiment}.txt').write_text(text)


def root_of(experiment):
  """What the command in its header runs: `musiclm train`, or a fit."""
  text = (ROOT / 'gin' / 'experiments' / f'{experiment}.gin').read_text()
  if kind := re.search(r'musiclm fit (\w+)', text):
    return importlib.import_module(
      f'musiclm_jax.tokenization.fit_{kind[1]}'
    ).fit
  return loop.train


def configure(experiment, stand_ins):
  """Parses an experiment as its command does, and gives what it binds."""
  file = f'experiments/{experiment}.gin'
  parser = flags.Parser()
  parser.add_gin_flags()
  bindings = [
    f'--gin.{name}={stand_ins[name]!r}' for name in required_macros(file)
  ]
  options = parser.parse_args([f'--gin_file={file}', *bindings])
  root = root_of(experiment)
  setup.configure(options, root=root, supplied=SUPPLIED)
  return gin.get_bindings(root)


def required_macros(file):
  gin.clear_config()
  gin_config._LOCATION_PREFIXES[:] = [str(ROOT / 'gin')]
  gin.parse_config_files_and_bindings([file], [], finalize_config=False)
  return [
    scope
    for (scope, selector), bound in gin_config._CONFIG.items()
    if selector == 'gin.macro' and repr(bound['value']) == '%gin.REQUIRED'
  ]


def golden_text(experiment, stand_ins):
  bound = configure(experiment, stand_ins)
  parts = [f'# {experiment}', operative_config(root_of(experiment))]
  if 'training' in bound:  # What a fit builds depends on what was trained.
    batch = abstract.batch_form(bound['batches'])
    state = abstract.boxed_state(bound['training'], batch=batch)
    parts += [
      table('Batch', batch),
      table('Parameters', state.params),
      table('Other variables', state.collections),
    ]
  text = '\n\n'.join(parts)
  for name, value in stand_ins.items():
    text = text.replace(repr(value), name)
  return text + '\n'


def operative_config(root):
  """The root's own bindings, then those of everything that it was given."""
  bound = {
    name: parameter.default
    for name, parameter in inspect.signature(root).parameters.items()
    if parameter.default is not parameter.empty and name not in SUPPLIED
  }
  bound.update(gin.get_bindings(root, resolve_references=False))
  lines = [
    f'{root.__name__}.{name} = {pprint.pformat(value)}'
    for name, value in sorted(bound.items())
  ]
  return '\n'.join(lines) + '\n\n' + setup.operative_config().rstrip()


def table(title, tree):
  """A line for each array: path, shape, type, logical axes, numbers in it."""
  rows, total = [], 0
  leaves = jax.tree_util.tree_leaves_with_path(
    tree, is_leaf=meta.is_axis_metadata
  )
  for path, leaf in leaves:
    axes = leaf.names if meta.is_axis_metadata(leaf) else None
    array = meta.unbox(leaf)
    count = math.prod(array.shape)
    total += count
    name = '/'.join(str(getattr(key, 'key', key)) for key in path)
    shape = 'x'.join(map(str, array.shape)) or 'scalar'
    names = ','.join(map(str, axes)) if axes else '-'
    rows.append((name, shape, str(array.dtype), names, f'{count:,}'))
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = (
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in rows
  )
  return '\n'.join([f'{title}: {total:,}', *lines])


@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_an_experiment_sets_and_builds_what_its_golden_file_says(
  experiment, texts
):
  path = GOLDEN / f'{experiment}.txt'
  text = texts[experiment]
  if 'UPDATE_GOLDEN' in os.environ:
    GOLDEN.mkdir(exist_ok=True)
    path.write_text(text)
  assert path.is_file(), 'Run UPDATE_GOLDEN=1 pytest tests/test_golden.py'
  assert text == path.read_text()


def test_every_golden_file_has_an_experiment():
  assert {path.stem for path in GOLDEN.glob('*.txt')} == set(EXPERIMENTS)


def test_the_text_shows_defaults_axes_and_sizes_but_no_path(texts):
  text = texts['codec_base']
  assert 'train.max_skipped_in_a_row = 10' in text  # Bound by no file.
  assert 'optimizers.adam.clip_norm = None' in text  # Likewise.
  assert re.search(r'encoder/first/weight_v +7x1x32 +float32 +kernel,', text)
  assert 'CORPUS = CORPUS' in text


@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_an_experiment_only_joins_files_and_says_how_to_run_it(experiment):
  text = (ROOT / 'gin' / 'experiments' / f'{experiment}.gin').read_text()
  lines = text.splitlines()
  assert len(lines) <= 30
  comments = [line for line in lines if line.startswith('#')]
  assert f'--gin_file=experiments/{experiment}.gin' in ' '.join(comments)
  code = [line for line in lines if line and not line.startswith('#')]
  assert code.pop(0) == 'from __gin__ import dynamic_registration'
  for line in code:
    name, is_macro, _ = line.partition(' = ')
    assert line.startswith("include '") or (is_macro and name.isupper()), line


@pytest.mark.parametrize(
  'path', sorted((ROOT / 'gin' / 'runs').glob('*.gin')), ids=lambda p: p.stem
)
def test_a_run_opens_with_what_it_requires_and_what_is_often_changed(path):
  header, _, code = path.read_text().partition('from __gin__')
  required, _, changed = header.partition('Often changed:')
  assert 'Required:' in required
  for line in code.splitlines():
    name, _, value = line.partition(' = ')
    # What is bound to a reference is this file's own doing.
    if name.isupper() and not value.startswith('@'):
      where = required if value == '%gin.REQUIRED' else changed
      assert re.search(rf'\b{name}\b', where), f'{path.name} hides {name}'
