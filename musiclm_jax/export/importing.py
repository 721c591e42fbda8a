# SPDX-License-Identifier: Apache-2.0
"""An exported folder, perhaps fine-tuned in PyTorch, as bundles again.

Weights that nobody changed are stored as they were, and have the fingerprint
that they had. Others are stored as they are and have a new one, and with it a
new token space: what was trained on the codes of the old one is refused. A
codec whose decoder alone was changed still makes the same codes, and keeps its
token space.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from musiclm_jax.checkpoints import bundle, config_json, storage
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.export import folder as folders
from musiclm_jax.export import naming
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import settings
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.streams import TokenStream

# What a codec's codes do not depend on.
_AFTER_THE_CODES = {'codec': 'params/decoder/'}

# Of the config of a component.
_FIELDS = {
  'config',
  'derived_from',
  'fingerprint',
  'kind',
  'stream_out',
  'streams_in',
  'trained_on',
}

_ORIGIN = '# Imported from PyTorch; exported from {fingerprint}.\n'

_Path = str | os.PathLike[str]


def import_folder(exported: _Path, output: _Path) -> dict[str, str]:
  """Publishes every component of an exported folder.

  Args:
    exported: What `musiclm export` wrote, with the weights that it holds now;
      or the folder of one of its components.
    output: A folder that is not there yet.

  Returns:
    The fingerprints of the bundles, by their place in `output`.

  Raises:
    ValueError: A component is missing or damaged, or not the one that was
      exported; or they do not fit together any more. Nothing is written.
  """
  exported = pathlib.Path(exported)
  fields = _read_json(exported / folders.CONFIG)
  places = _places(exported, fields)
  sampling = settings.of_fields(fields, path=exported / folders.CONFIG)
  with folders.staged(output) as directory:
    published = {
      place: _publish(directory / place, folder)
      for place, folder in places.items()
    }
    if fields.get('kind') == 'music_lm':
      _assemble(directory, sampling=sampling)
  return published


def _places(
  exported: pathlib.Path, fields: Mapping[str, Any]
) -> dict[str, pathlib.Path]:
  """Where the components lie, by where they go; '.' of one alone."""
  if 'components' not in fields:
    return {'.': exported}
  known = [*folders.PLACES.values()]
  known += [f'stages/{name}' for name in assemblies.STAGES]
  # A folder may come from anywhere: a place of its own would be written to.
  if unknown := sorted(set(fields['components']) - set(known)):
    raise ValueError(
      f'{exported / folders.CONFIG} has components at {", ".join(unknown)};'
      f' they lie at {", ".join(known)}. Export it again.'
    )
  return {place: exported / place for place in fields['components']}


def _publish(directory: pathlib.Path, folder: pathlib.Path) -> str:
  fields = _read_json(folder / folders.CONFIG)
  if missing := _FIELDS - fields.keys():
    raise ValueError(
      f'{folder / folders.CONFIG} lacks {", ".join(sorted(missing))}; export it'
      ' again.'
    )
  return bundle.publish(
    directory,
    _contents(folder, fields),
    gin_config=_ORIGIN.format(fingerprint=fields['fingerprint']),
  )


def _contents(
  folder: pathlib.Path, fields: Mapping[str, Any]
) -> bundle.BundleContents:
  """What the folder of one component holds."""
  described = _read_json(folder / folders.LINEN)
  try:
    state = safetensors.numpy.load_file(folder / folders.WEIGHTS)
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'{folder / folders.WEIGHTS} cannot be read ({error}); save the state'
      ' dict there again.'
    ) from error
  weights = naming.from_state_dict(
    state, kind=fields['kind'], described=described
  )
  leaves: Mapping[str, np.ndarray] = fingerprints.flatten(weights)
  changed = [
    path
    for path, leaf in leaves.items()
    if fingerprints.leaf_hash(leaf) != described[path]['sha256']
  ]
  # In fewer bytes, what was tuned would be rounded.
  stored_as = None if changed else fields.get('storage')
  published = fingerprints.fingerprint(
    storage.encode(leaves, storage=stored_as), config=fields['config']
  )
  derived_from = fields['derived_from']
  if published != fields['fingerprint']:
    derived_from = _token_space(fields, changed=changed)
  stream_out = fields['stream_out']
  return bundle.BundleContents(
    kind=fields['kind'],
    config=config_json.from_json(fields['config']),
    weights=weights,
    stream_out=None
    if stream_out is None
    else TokenStream.from_json(stream_out),
    streams_in=tuple(map(TokenStream.from_json, fields['streams_in'])),
    trained_on=fields['trained_on'],
    derived_from=derived_from,
    storage=stored_as,
  )


def _token_space(
  fields: Mapping[str, Any], *, changed: Sequence[str]
) -> str | None:
  """The fingerprint whose codes changed weights still make, if any."""
  free = _AFTER_THE_CODES.get(fields['kind'])
  if any(not (free and path.startswith(free)) for path in changed):
    return None
  return fields['derived_from'] or fields['fingerprint']


def _assemble(directory: pathlib.Path, *, sampling: SamplingConfig) -> None:
  assemblies.write(
    directory,
    **{
      name: directory / name
      for name in assemblies.TOKENIZERS
      if (directory / name).exists()
    },
    stages={name: directory / 'stages' / name for name in assemblies.STAGES},
    sampling=sampling,
  )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    fields = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise ValueError(
      f'{path} is missing; give a folder that `musiclm export` wrote, or one of'
      ' a component in it.'
    ) from error
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path} is not JSON ({error}); export it again.'
    ) from error
  if not isinstance(fields, dict):
    raise ValueError(f'{path} is not an object of JSON; export it again.')
  version = fields.get('format_version')
  if path.name == folders.CONFIG and version != folders.FORMAT_VERSION:
    raise ValueError(
      f'{path} has format version {version}; this program reads'
      f' {folders.FORMAT_VERSION}. Use the version of musiclm_jax that wrote'
      ' it.'
    )
  return fields
