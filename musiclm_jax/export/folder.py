# SPDX-License-Identifier: Apache-2.0
"""What an exported folder holds, and how it is written.

    config.json            format, the fingerprints of all components, and how
                           the model wants to be sampled
    modeling_musiclm/      the PyTorch modules, a package of their own
    codec/ semantic/ mulan/ stages/{semantic,coarse,fine}/
      config.json          the bundle's own model.json
      model.safetensors    PyTorch's names and layouts
      linen.json           paths, shapes and types, for the way back
    requirements.txt

`staged` gives a folder beside the wanted one and renames it at the end, so what
fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import safetensors.numpy

from musiclm_jax.checkpoints import bundle, config_json
from musiclm_jax.export import naming
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import settings
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.stages.spec import StageSpec

# Of the folder; `pytorch/configuration.py` names the same.
FORMAT_VERSION = 1
CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
LINEN = 'linen.json'
PACKAGE = 'modeling_musiclm'
REQUIREMENTS = 'requirements.txt'
# Where components lie, by their kind; a stage below `stages/`, by its name.
PLACES = {'codec': 'codec', 'semantic': 'semantic', 'conditioner': 'mulan'}

_SOURCES = pathlib.Path(__file__).parent / 'pytorch'
_REQUIRED = 'torch', 'safetensors'
# By the kind of a component, what it imports besides.
_REQUIRED_BY: Mapping[str, tuple[str, ...]] = {'conditioner': ('tokenizers',)}

_Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """What is exported.

  Attributes:
    bundles: By their place in the folder.
    sampling: How a MusicLM wants to be sampled; None for one bundle alone.
  """

  bundles: Mapping[str, bundle.Bundle]
  sampling: SamplingConfig | None = None


@contextlib.contextmanager
def staged(output: _Path) -> Iterator[pathlib.Path]:
  """A new folder that becomes `output` if the block ends well.

  Raises:
    ValueError: `output` is there already and is not an empty folder.
  """
  output = pathlib.Path(os.path.abspath(output))
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise ValueError(
      f'{output} is not empty; name a folder that is not there yet.'
    )
  staging = output.parent / f'.{output.name}.{os.getpid()}'
  # Left by one that was killed: no other process that runs has this number.
  shutil.rmtree(staging, ignore_errors=True)
  staging.mkdir(parents=True)
  try:
    yield staging
    os.replace(staging, output)
  finally:
    shutil.rmtree(staging, ignore_errors=True)


def read(model: _Path) -> Model:
  """A model, or one bundle alone.

  Args:
    model: A folder with a `music_lm.json`, or that of one bundle.

  Raises:
    ValueError: It is neither; bundles are damaged or do not fit together.
  """
  model = pathlib.Path(model)
  if not (model / assemblies.MUSIC_LM_JSON).exists():
    return Model(bundles=dict([_placed(bundle.load(model))]))
  assembly = assemblies.read(model)
  folders = [*assembly.tokenizers.values()]
  folders += [assembly.stages[name] for name in assemblies.STAGES]
  return Model(
    bundles=dict(_placed(bundle.load(folder)) for folder in folders),
    sampling=assembly.sampling,
  )


def write(directory: pathlib.Path, model: Model) -> None:
  """Writes components, modules, requirements and the config of all."""
  bundles = model.bundles
  for place, found in bundles.items():
    write_component(found, directory / place)
  write_package(directory, kinds={found.kind for found in bundles.values()})
  _write_json(
    directory / CONFIG,
    {
      'format_version': FORMAT_VERSION,
      'kind': 'music_lm' if len(bundles) > 1 else 'component',
      'components': {
        place: {'kind': found.kind, 'fingerprint': found.fingerprint}
        for place, found in bundles.items()
      },
      **(settings.to_fields(model.sampling) if model.sampling else {}),
    },
  )


def write_component(found: bundle.Bundle, directory: pathlib.Path) -> None:
  """Writes one bundle as PyTorch reads it."""
  state = naming.to_state_dict(found.weights, kind=found.kind)
  directory.mkdir(parents=True)
  model = bundle.read_model_json(found.directory)
  # Through its class, so that every field is there, with its default.
  model['config'] = config_json.to_json(found.config)
  _write_json(directory / CONFIG, model | {'format_version': FORMAT_VERSION})
  _write_json(directory / LINEN, naming.describe(found.weights))
  safetensors.numpy.save_file(
    state, directory / WEIGHTS, metadata={'format': 'pt'}
  )
  # safetensors makes its file for the owner alone.
  shutil.copymode(directory / CONFIG, directory / WEIGHTS)


def write_package(directory: pathlib.Path, *, kinds: Collection[str]) -> None:
  """Copies the PyTorch modules, as they are, and says what they need.

  Args:
    directory: The exported folder.
    kinds: Of its components.
  """
  shutil.copytree(
    _SOURCES,
    directory / PACKAGE,
    ignore=shutil.ignore_patterns('__pycache__'),
  )
  more = [name for kind in sorted(kinds) for name in _REQUIRED_BY.get(kind, ())]
  write_requirements(directory / REQUIREMENTS, [*_REQUIRED, *more])


def write_requirements(path: pathlib.Path, packages: Iterable[str]) -> None:
  """Writes one package a line, as pip reads them."""
  path.write_text(''.join(f'{package}\n' for package in packages))


def _placed(found: bundle.Bundle) -> tuple[str, bundle.Bundle]:
  """Where in the folder a bundle goes, and the bundle."""
  naming.rule_of(found.kind)
  if found.kind == 'stage':
    spec: StageSpec = found.config.spec
    if any(take.distinct_share is not None for take in spec.takes):
      raise ValueError(
        f'Stage {spec.name!r} of {found.directory} reads codes without repeats'
        ' (distinct_share), which the exported modules do not know; export'
        ' stages that were trained without stages/audiolm/deduplicated.gin.'
      )
    return f'stages/{found.config.spec.name}', found
  return PLACES[found.kind], found


def _write_json(path: pathlib.Path, fields: Any) -> None:
  path.write_text(json.dumps(fields, indent=2) + '\n')
