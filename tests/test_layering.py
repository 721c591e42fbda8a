# SPDX-License-Identifier: Apache-2.0
"""What may import what, read from the sources; and what the tree may hold.

streams axes array_types batches metrics
   ↑ audio   layers   quantization   checkpoints
        ↑ codec   semantic   mulan   stages
              ↑ conditioning
                   ↑ inference    ↑ training
                        ↑ export   ↑ integrations
                             ↑ evaluation   tokenization   planning   benchmark
data → the vocabulary, audio and what a stage is; never a model
cli  → everything;   nothing → cli
"""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'musiclm_jax'

LEVELS = (
  {'streams', 'axes', 'array_types', 'batches', 'metrics'},
  {'audio', 'layers', 'quantization', 'checkpoints'},
  {'codec', 'semantic', 'mulan', 'stages'},
  {'conditioning'},
  {'inference', 'training'},
  # What is exported is compared with inference; t5x predicts by it.
  {'export', 'integrations'},
  {'evaluation', 'tokenization', 'planning', 'benchmark'},
)
VOCABULARY = LEVELS[0]

# Beside what lies below; inside the first level imports are free.
ALSO = {
  **{module: VOCABULARY for module in VOCABULARY},
  # Codebooks are parameters, and `layers.parameters` is how one is made.
  'quantization': {'layers'},
}
DATA_MAY_IMPORT = (*VOCABULARY, 'audio', 'stages.spec', 'stages.layout')
DATA_MAY_IMPORT += ('stages.deduplication',)

ONLY_HOME = {
  'gin': 'cli',
  'optax': 'training',
  'seqio': 'data',
  't5x': 'integrations',
  'tensorflow': 'data',
  'tensorflow_datasets': 'data',
  'torch': 'export',
}

# What the packages below may import beside the core's requirements.
EXTRAS_OF = {
  'data': ('tunes', 'data'),
  'evaluation': ('eval', 'no-deps', 'hub'),
  'export': ('torch', 'serve', 'onnx', 'hub'),
}

# Who trains with t5x, which is on no registry, brings it and what it needs.
BROUGHT = {'integrations': {'clu', 't5x'}}

# Names that say nothing of what is in a file.
REFUSED_NAMES = {'utils', 'util', 'common', 'helpers', 'misc', 'tools'}

# Tests of no single module.
CROSS_CUTTING = {
  'test_layering',
  'test_golden',
  'test_extension',
  'test_resume',
}


# Copied to where there is no musiclm_jax: their own imports are relative.
EXPORTED = {PACKAGE / 'export' / part for part in ('pytorch', 'serving')}


def imports_of(path: pathlib.Path) -> set[str]:
  """Dotted names that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level or path.parent in EXPORTED, f'{path}: relative'
      if node.level:
        continue
      found.update(f'{node.module}.{alias.name}' for alias in node.names)
  return found


def home_of(path: pathlib.Path) -> str:
  """The package, or the module of the vocabulary, that a file belongs to."""
  first = path.relative_to(PACKAGE).parts[0]
  return first.removesuffix('.py')


def may_import(home: str, target: str) -> bool:
  """Whether a file of `home` may import `musiclm_jax.<target>`."""
  first = target.split('.')[0]
  if home in ('cli', first):
    return True
  if home == 'data':
    return f'{target}.'.startswith(tuple(f'{m}.' for m in DATA_MAY_IMPORT))
  level = next(i for i, names in enumerate(LEVELS) if home in names)
  below = set().union(*LEVELS[:level])
  return first in below | ALSO.get(home, set())


SOURCES = sorted(PACKAGE.rglob('*.py'))
IMPORTS = {path: imports_of(path) for path in SOURCES}
WITH_HOME = [path for path in SOURCES if path.parent != PACKAGE] + [
  PACKAGE / f'{module}.py' for module in sorted(VOCABULARY)
]


def test_the_top_of_the_package_holds_the_vocabulary_and_packages_only():
  modules = {path.stem for path in PACKAGE.glob('*.py')}
  assert modules == VOCABULARY | {'__init__'}
  packages = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
  assert packages <= set().union(*LEVELS) | {'data', 'cli'}


def test_imports_point_down_only():
  wrong = [
    f'{path.relative_to(ROOT)} imports musiclm_jax.{target}'
    for path in WITH_HOME
    for name in sorted(IMPORTS[path])
    if name.startswith('musiclm_jax.')
    and not may_import(
      home_of(path), target := name.removeprefix('musiclm_jax.')
    )
  ]
  assert not wrong, '\n'.join(wrong)


def test_the_rule_itself_can_refuse():
  assert may_import('codec', 'audio.spectral')
  assert not may_import('codec', 'semantic.base')
  assert not may_import('audio', 'codec.base')
  assert not may_import('training', 'cli.setup')
  assert may_import('data', 'stages.spec.StageSpec')
  assert not may_import('data', 'stages.lm')
  assert not may_import('evaluation', 'benchmark.report')


@pytest.mark.parametrize('library', sorted(ONLY_HOME))
def test_a_library_is_imported_by_its_only_home(library: str):
  importers = {
    home_of(path)
    for path in WITH_HOME
    if any(name.split('.')[0] == library for name in IMPORTS[path])
  }
  assert importers <= {ONLY_HOME[library]}


def _requirements() -> dict[str, set[str]]:
  """Distributions that setup.py names, by extra; the core's under ''."""
  lists = {}
  for node in ast.parse((ROOT / 'setup.py').read_text()).body:
    if isinstance(node, ast.Assign):
      lists[node.targets[0].id] = node.value
  extras = {
    key.value: {
      element.value
      for element in value.elts
      if isinstance(element, ast.Constant)
    }
    for key, value in zip(lists['EXTRAS'].keys, lists['EXTRAS'].values)
    if isinstance(value, ast.List)
  }
  # Beside setup.py, since nothing can depend on them.
  without = (ROOT / 'requirements-no-deps.txt').read_text().splitlines()
  extras['no-deps'] = {
    line for line in without if line and not line.startswith('#')
  }
  extras['tunes'] = set(ast.literal_eval(lists['TUNES']))
  extras[''] = set(ast.literal_eval(lists['CORE']))
  return {extra: set(map(_plain, names)) for extra, names in extras.items()}


def _plain(distribution: str) -> str:
  name = re.match(r'[\w.-]+', distribution)[0]
  return re.sub(r'[-_.]+', '-', name).lower()


def test_every_library_is_required_by_setup():
  required = _requirements()
  distributions = importlib.metadata.packages_distributions()
  missing = set()
  for path in WITH_HOME:
    home = home_of(path)
    declared = set().union(
      required[''],
      BROUGHT.get(home, ()),
      *(required[extra] for extra in EXTRAS_OF.get(home, ())),
    )
    for library in {name.split('.')[0] for name in IMPORTS[path]}:
      if library in sys.stdlib_module_names or library == 'musiclm_jax':
        continue
      owners = set(map(_plain, distributions.get(library, [library])))
      if not owners & declared:
        missing.add(f'{path.relative_to(ROOT)}: {library}')
  assert not missing, '\n'.join(sorted(missing))


WITHOUT_OPTIONAL = """
import importlib, pkgutil, sys

class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {refused!r}:
      raise ImportError(f'{{name}} is refused here')

sys.meta_path.insert(0, Refuse())
import musiclm_jax
for module in pkgutil.walk_packages(musiclm_jax.__path__, 'musiclm_jax.'):
  if not {but!r} & set(module.name.split('.')):
    importlib.import_module(module.name)
    print(module.name)
"""


def _python(code: str) -> str:
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_everything_but_the_edges_imports_without_tensorflow_seqio_and_gin():
  code = WITHOUT_OPTIONAL.format(
    refused={'tensorflow', 'tensorflow_datasets', 'seqio', 'gin'},
    # The last is for hosts that have transformers, and only copied here.
    but={'data', 'cli', 'integrations', 'modeling_musiclm_hf'},
  )
  assert 'musiclm_jax.streams' in _python(code).split()


def test_the_package_imports_nothing_and_at_once():
  code = (
    'import time; start = time.process_time(); import musiclm_jax;'
    ' print(time.process_time() - start); import sys;'
    ' print(*{name.partition(".")[0] for name in sys.modules})'
  )
  seconds, loaded = zip(*(_python(code).splitlines() for _ in range(3)))
  # Seconds of this process, the fewest of three: the machine may be busy.
  assert min(map(float, seconds)) < 0.2
  heavy = {'jax', 'numpy', 'tensorflow', 'torch', 'flax', 'gin', 'seqio'}
  assert not heavy & set(loaded[0].split())


def test_the_public_names_exist_and_are_listed():
  import musiclm_jax

  assert 3 <= len(musiclm_jax.__all__) <= 8
  for name in musiclm_jax.__all__:
    assert getattr(musiclm_jax, name).__name__ == name
  assert dir(musiclm_jax) == sorted(musiclm_jax.__all__)
  with pytest.raises(AttributeError, match='no attribute .token_stream'):
    musiclm_jax.token_stream  # noqa: B018


def test_the_standard_library_is_enough_for_streams_and_stage_specs():
  for module in ('streams.py', 'stages/spec.py'):
    libraries = {name.split('.')[0] for name in IMPORTS[PACKAGE / module]}
    assert libraries <= sys.stdlib_module_names | {'musiclm_jax', '__future__'}


def test_every_folder_is_a_package_else_the_wheel_lacks_it():
  folders = {path.parent for path in SOURCES}
  assert not [path for path in folders if not (path / '__init__.py').is_file()]


def test_no_file_has_a_name_that_says_nothing():
  files = [*SOURCES, *(ROOT / 'tests').rglob('*.py')]
  assert not [path for path in files if path.stem in REFUSED_NAMES]


def test_the_gin_folder_holds_no_python_which_would_hide_the_library():
  assert not list((ROOT / 'gin').rglob('*.py'))


def test_every_test_file_mirrors_a_module():
  orphans = []
  for path in (ROOT / 'tests').rglob('test_*.py'):
    folder = path.parent.relative_to(ROOT / 'tests')
    stem = path.stem.removeprefix('test_')
    # `test_loop_resume.py` may test one side of `loop.py`.
    words = stem.split('_')
    stems = {'_'.join(words[:n]) for n in range(1, len(words) + 1)}
    homes = (PACKAGE / folder, ROOT / folder)
    if path.stem not in CROSS_CUTTING and not any(
      (home / f'{stem}{suffix}').is_file()
      for home in homes
      for stem in stems
      for suffix in ('.py', '.sh')
    ):
      orphans.append(str(path.relative_to(ROOT)))
  assert not orphans


def test_every_source_file_states_its_licence_and_what_it_is():
  for path in SOURCES:
    text = path.read_text(encoding='utf-8')
    assert text.startswith('# SPDX-License-Identifier: Apache-2.0\n'), path
    if path.name != '__init__.py':
      assert ast.get_docstring(ast.parse(text)), path
