# SPDX-License-Identifier: Apache-2.0
"""What an exported folder holds: its config as plain objects, its weights."""

from __future__ import annotations

import fractions
import json
import os
import pathlib
import types
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

FORMAT_VERSION = 1

Path = str | os.PathLike[str]


class Config(types.SimpleNamespace):
  """Fields as attributes, nested as in the JSON; arrays are lists."""


def read_config(folder: Path, *, kind: str) -> Config:
  """The `config.json` of an exported folder.

  Args:
    folder: Of one component, or of the whole model.
    kind: What it must be: 'codec', 'semantic', 'conditioner', 'stage' or
      'music_lm'.

  Returns:
    All that it says; a component's own sizes are in its `config`.

  Raises:
    ValueError: It is missing, damaged, of another format or kind.
  """
  path = pathlib.Path(folder) / 'config.json'
  try:
    config = json.loads(path.read_text(encoding='utf-8'), object_hook=_object)
  except FileNotFoundError as error:
    raise ValueError(
      f'{path.parent} holds no config.json; give the folder that `musiclm'
      ' export` wrote, or one of a component in it.'
    ) from error
  except ValueError as error:
    raise ValueError(
      f'{path} is not JSON ({error}); export it again.'
    ) from error
  version = getattr(config, 'format_version', None)
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path} has format version {version}; these modules read'
      f' {FORMAT_VERSION}. Use the modeling_musiclm that was exported with it.'
    )
  if config.kind != kind:
    raise ValueError(
      f'A folder of kind {kind!r} is wanted, but {path.parent} holds a'
      f' {config.kind!r}.'
    )
  return config


def has_weights_of(folder: Path, part: str) -> bool:
  """Whether there are weights of a part; True if none can be read."""
  path = pathlib.Path(folder) / 'model.safetensors'
  try:
    with safe_open(path, 'pt') as file:
      return any(name.startswith(f'{part}.') for name in file.keys())
  except Exception:  # `load_weights` says what is wrong with the file.
    return True


def load_weights(
  module: torch.nn.Module,
  folder: Path,
  *,
  device: torch.device | str | None = None,
  dtype: torch.dtype | None = None,
) -> None:
  """Reads `model.safetensors` into `module`, and puts it in evaluation mode.

  Args:
    module: Made from the config of the same folder.
    folder: Of one component.
    device: Where it goes; stays where it is if left out.
    dtype: Of its parameters; codebooks stay in float32 whatever it is.

  Raises:
    ValueError: The weights are missing, damaged, or those of another config.
  """
  path = pathlib.Path(folder) / 'model.safetensors'
  if not path.exists():
    raise ValueError(f'{path} is missing; export it again.')
  try:
    state = load_file(path)
  except Exception as error:  # Its own, which is no ValueError.
    raise ValueError(
      f'{path} is truncated or not in the safetensors format ({error}).'
    ) from error
  try:
    module.load_state_dict(state)
  except RuntimeError as error:
    raise ValueError(
      f'{path} does not fit its config.json: {" ".join(str(error).split())}'
    ) from error
  module.to(device=device, dtype=dtype).eval()


def _object(fields: dict[str, Any]) -> Any:
  """One JSON object: what the exporter tags with `$`, or attributes."""
  if '$fraction' in fields:
    return fractions.Fraction(fields['$fraction'])
  if '$dtype' in fields:
    return fields['$dtype']
  if '$enum' in fields:
    return fields['name']
  return Config(**{k: v for k, v in fields.items() if k != '$class'})
