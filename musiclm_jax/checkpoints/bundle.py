# SPDX-License-Identifier: Apache-2.0
"""Bundles: a trained component on disk, read without gin, optimizer or JAX.

A folder with `model.json` (kind, config, streams, fingerprints),
`weights.safetensors` (the weights that inference, tokenization and export need)
and `config.gin` (the operative config of the run, for people). Every load
verifies the fingerprint, so three stages that were trained apart can never
disagree on a token space.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from musiclm_jax.checkpoints import buckets, config_json, storage
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.checkpoints.buckets import Folder
from musiclm_jax.streams import TokenStream

MODEL_JSON = 'model.json'
WEIGHTS = 'weights.safetensors'
CONFIG_GIN = 'config.gin'
FORMAT_VERSION = 1

# A fixed name: what a killed publish left is replaced by the next one.
_STAGING = '.publishing'


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleContents:
  """What an objective hands over to be published.

  Attributes:
    kind: What it is: 'codec', 'semantic', 'mulan', 'stage'.
    config: The config dataclass of the model.
    weights: Linen collections, as inference takes them: nested dicts of arrays,
      without optimizer state and training-only parts.
    stream_out: The codes it makes or predicts; None if it makes none. Its
      fingerprint is filled in when the bundle is published.
    streams_in: The codes it reads.
    trained_on: Fingerprint of each component whose codes it was trained on, by
      the name of the stream.
    derived_from: The token space of another bundle that this one stands for: a
      copy in lower precision, or one that was trained on after the codes.
    storage: How parameters lie on disk, one of `storage.STORAGES`; None for as
      they are.
  """

  kind: str
  config: Any
  weights: Mapping[str, Any]
  stream_out: TokenStream | None
  streams_in: tuple[TokenStream, ...] = ()
  trained_on: Mapping[str, str] = dataclasses.field(default_factory=dict)
  derived_from: str | None = None
  storage: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle(BundleContents):
  """A published component, verified.

  Attributes:
    directory: Where it was read.
    fingerprint: Of these weights, as they are stored, and this config.
  """

  directory: Folder
  fingerprint: str

  @property
  def token_space(self) -> str:
    """The fingerprint that others are trained on; a copy keeps the original's."""
    return self.derived_from or self.fingerprint


def publish(
  directory: str | os.PathLike[str],
  contents: BundleContents,
  *,
  gin_config: str = '',
) -> str:
  """Writes a bundle; whenever it is cut off, a reader gets a whole one or an error.

  With several processes all of them must call it: weights that are spread over
  processes are gathered, a leaf at a time, and the first process writes.

  Args:
    directory: The model's folder; may hold `checkpoints/` and an older bundle.
    contents: What to publish.
    gin_config: The operative gin config of the run.

  Returns:
    The fingerprint.
  """
  directory = buckets.folder(directory)
  config = config_json.to_json(contents.config)
  weights = storage.encode(
    {
      path: to_host(leaf)
      for path, leaf in fingerprints.flatten(contents.weights).items()
    },
    storage=contents.storage,
  )
  if not weights:
    raise ValueError(f'There are no weights to publish in {directory}.')
  fingerprint = fingerprints.fingerprint(weights, config=config)
  model = _model_json(contents, config=config, fingerprint=fingerprint)
  # Here, so that reading a bundle needs no JAX.
  import jax
  from jax.experimental import multihost_utils

  if jax.process_index() == 0:
    _write(directory, model=model, weights=weights, gin_config=gin_config)
  if jax.process_count() > 1:  # Nobody may load it before it is written.
    multihost_utils.sync_global_devices(f'published {directory}')
  return fingerprint


def load(
  directory: str | os.PathLike[str], *, kind: str | None = None
) -> Bundle:
  """Reads and verifies a bundle.

  Args:
    directory: The model's folder.
    kind: What it must be; any kind if left out.

  Returns:
    The bundle, its weights as nested dicts of NumPy arrays; those that are
      stored in fewer bytes as float32.

  Raises:
    ValueError: It is missing, damaged, edited, or of another kind.
  """
  directory = buckets.folder(directory)
  model = read_model_json(directory)
  if kind is not None and model['kind'] != kind:
    raise ValueError(
      f'A bundle of kind {kind!r} is wanted, but {directory} holds a'
      f' {model["kind"]!r}.'
    )
  weights = _read_weights(directory / WEIGHTS)
  found = fingerprints.fingerprint(weights, config=model['config'])
  if found != model['fingerprint']:
    raise ValueError(
      f'{directory} was published as {model["fingerprint"]}, but its weights and'
      f' config are {found}: {WEIGHTS} or the config in {MODEL_JSON} was changed'
      ' or damaged since. Copy the folder again from where it came, or publish'
      ' it again from its checkpoints.'
    )
  return Bundle(
    directory=directory,
    fingerprint=found,
    kind=model['kind'],
    config=config_json.from_json(model['config']),
    weights=fingerprints.unflatten(storage.decode(weights)),
    stream_out=_stream(model['stream_out']),
    streams_in=tuple(_stream(fields) for fields in model['streams_in']),
    trained_on=model['trained_on'],
    derived_from=model['derived_from'],
    storage=model.get('storage'),
  )


def read_model_json(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """`model.json` as it stands, not verified: no weights read, nothing imported."""
  path = buckets.folder(directory) / MODEL_JSON
  if not path.exists():
    raise ValueError(
      f'{path.parent} is not a bundle: it has no {MODEL_JSON}. Give the folder'
      ' of a trained model; if its training has not ended, it is not published'
      ' yet.'
    )
  try:
    model = json.loads(path.read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f'{path} is not JSON ({error}); copy the bundle again from where it came.'
    ) from error
  version = model.get('format_version') if isinstance(model, dict) else None
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path} has format version {version}; this program reads'
      f' {FORMAT_VERSION}. Use the version of musiclm_jax that wrote it.'
    )
  return model


def require_trained_on(
  model: Bundle, *, name: str, component: Bundle, remedy: str
) -> None:
  """Raises unless `model` was trained on the codes of `component`.

  Args:
    model: A bundle that reads or predicts the codes.
    name: The stream: 'acoustic', 'semantic', 'mulan'.
    component: The bundle that makes the codes here.
    remedy: What to run otherwise, as the end of the message.

  Raises:
    ValueError: Names both fingerprints and the remedy.
  """
  wanted = model.trained_on.get(name)
  if wanted != component.token_space:
    raise ValueError(
      f'{model.directory} was trained on {name} codes of {wanted}, but'
      f' {component.directory} makes those of {component.token_space}. {remedy}'
    )


def _model_json(
  contents: BundleContents, *, config: Any, fingerprint: str
) -> dict[str, Any]:
  stream_out = contents.stream_out
  if stream_out is not None:
    stream_out = dataclasses.replace(
      stream_out, fingerprint=contents.derived_from or fingerprint
    ).to_json()
  return {
    'format_version': FORMAT_VERSION,
    'kind': contents.kind,
    'fingerprint': fingerprint,
    'derived_from': contents.derived_from,
    'storage': contents.storage,
    'stream_out': stream_out,
    'streams_in': [stream.to_json() for stream in contents.streams_in],
    'trained_on': dict(contents.trained_on),
    'config': config,
  }


def _write(
  directory: Folder,
  *,
  model: dict[str, Any],
  weights: dict[str, np.ndarray],
  gin_config: str,
) -> None:
  """Stages the three files, then moves each to its place."""
  is_bucket = buckets.is_bucket(directory)
  staging = (
    pathlib.Path(tempfile.mkdtemp()) if is_bucket else directory / _STAGING
  )
  shutil.rmtree(staging, ignore_errors=True)
  staging.mkdir(parents=True)
  try:
    safetensors.numpy.save_file(
      weights, staging / WEIGHTS, metadata={'fingerprint': model['fingerprint']}
    )
    (staging / CONFIG_GIN).write_text(gin_config)
    # safetensors makes its file for the owner alone.
    shutil.copymode(staging / CONFIG_GIN, staging / WEIGHTS)
    (staging / MODEL_JSON).write_text(json.dumps(model, indent=2) + '\n')
    directory.mkdir(parents=True, exist_ok=True)
    # The manifest last: without it the folder is no bundle, and between the
    # renames of a second publish the fingerprint tells.
    for name in (WEIGHTS, CONFIG_GIN, MODEL_JSON):
      if is_bucket:
        # Where a file is whole or absent.
        epath.Path(staging / name).copy(directory / name, overwrite=True)
        continue
      _sync(staging / name)
      os.replace(staging / name, directory / name)
    if not is_bucket:
      _sync(directory)
  except (OSError, safetensors.SafetensorError) as error:
    raise OSError(
      f'The bundle could not be written to {directory}: {error}. Free some'
      ' space or choose another folder, then publish again.'
    ) from error
  finally:
    shutil.rmtree(staging, ignore_errors=True)


def _read_weights(path: Folder) -> dict[str, np.ndarray]:
  try:
    if not buckets.is_bucket(path):
      return safetensors.numpy.load_file(path)
    # From memory safetensors reads no bfloat16.
    with tempfile.TemporaryDirectory() as staging:
      copy = path.copy(pathlib.Path(staging) / WEIGHTS)
      return safetensors.numpy.load_file(copy)
  except FileNotFoundError as error:
    raise ValueError(
      f'{path} is missing; copy the bundle again from where it came.'
    ) from error
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'{path} is truncated or not in the safetensors format ({error}); copy'
      ' the bundle again from where it came.'
    ) from error


def to_host(leaf: Any) -> np.ndarray:
  """A leaf whole in this process's memory, C-contiguous.

  One that is spread over processes is gathered, so all of them must call it.
  """
  if hasattr(leaf, 'unbox'):  # Linen's box of logical axis names.
    leaf = leaf.unbox()
  if not getattr(leaf, 'is_fully_addressable', True):
    from jax.experimental import multihost_utils

    leaf = multihost_utils.process_allgather(leaf, tiled=True)
  # safetensors writes the memory as it lies, so strides must be in order.
  return np.asarray(leaf, order='C')


def _stream(fields: dict[str, Any] | None) -> TokenStream | None:
  return None if fields is None else TokenStream.from_json(fields)


def _sync(path: pathlib.Path) -> None:
  """Puts a file, or a folder's names, on the disk itself."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
