# SPDX-License-Identifier: Apache-2.0
"""Config dataclasses to JSON and back, exactly and without a registry.

A dataclass is written as `{"$class": "module:QualName", field: value, ...}` and
rebuilt by importing that name, so a new config class needs no entry anywhere.
What JSON has no word for carries a tag of one dollar sign: fractions, dtypes
and enum members. Tuples are JSON arrays; lists are refused, because they would
come back as tuples and the config would not equal itself. Standard library and
NumPy only.
"""

from __future__ import annotations

import dataclasses
import enum
import fractions
import importlib
import json
import math
from typing import Any

import ml_dtypes  # noqa: F401  Teaches NumPy the name 'bfloat16'.
import numpy as np

_CLASS = '$class'
_FRACTION = '$fraction'
_DTYPE = '$dtype'
_ENUM = '$enum'


def to_json(value: Any, *, path: str = 'config') -> Any:
  """The JSON form of a config, or of any value that a config may hold.

  Args:
    value: Dataclass, tuple, dict, Fraction, dtype, enum member, number, text
      or None; nested as deep as it likes.
    path: Where `value` stands, for the error message.

  Returns:
    Dicts, lists, numbers, text and None.

  Raises:
    ValueError: Names the field that cannot be written.
  """
  if value is None or isinstance(value, (bool, int, str)):
    if isinstance(value, enum.Enum):
      return {_ENUM: _name_of(type(value), path=path), 'name': value.name}
    return value
  if isinstance(value, float):
    if not math.isfinite(value):
      raise ValueError(f'{path} is {value}, which JSON cannot hold.')
    return float(value)
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {
      field.name: to_json(
        getattr(value, field.name), path=f'{path}.{field.name}'
      )
      for field in dataclasses.fields(value)
      if field.init
    }
    return {_CLASS: _name_of(type(value), path=path), **fields}
  if isinstance(value, tuple):
    return [to_json(item, path=f'{path}[{i}]') for i, item in enumerate(value)]
  if isinstance(value, dict):
    return _dict_to_json(value, path=path)
  if isinstance(value, fractions.Fraction):
    return {_FRACTION: str(value)}
  if isinstance(value, enum.Enum):
    return {_ENUM: _name_of(type(value), path=path), 'name': value.name}
  if _is_dtype(value):
    return {_DTYPE: np.dtype(value).name}
  remedy = 'write a tuple' if isinstance(value, list) else 'name it by text'
  raise ValueError(
    f'{path} is a {type(value).__qualname__}, which a bundle cannot store;'
    f' {remedy} instead.'
  )


def from_json(value: Any) -> Any:
  """What `to_json` wrote, with the same types.

  Fields that the class has gained since take their default, so a new field's
  default must mean what the code did before it.

  Raises:
    ValueError: A class cannot be imported, or has no such field.
  """
  if isinstance(value, list):
    return tuple(from_json(item) for item in value)
  if not isinstance(value, dict):
    return value
  if _FRACTION in value:
    return fractions.Fraction(value[_FRACTION])
  if _DTYPE in value:
    return np.dtype(value[_DTYPE])
  if _ENUM in value:
    return getattr(_import(value[_ENUM]), value['name'])
  fields = {
    name: from_json(item) for name, item in value.items() if name != _CLASS
  }
  if _CLASS not in value:
    return fields
  return _build(value[_CLASS], fields)


def canonical_json(value: Any) -> str:
  """One text for one JSON value: sorted keys, no spaces, ASCII."""
  return json.dumps(
    value, sort_keys=True, separators=(',', ':'), allow_nan=False
  )


def _dict_to_json(value: dict[Any, Any], *, path: str) -> dict[str, Any]:
  for key in value:
    if not isinstance(key, str) or key.startswith('$'):
      raise ValueError(
        f'{path} has the key {key!r}; keys are text that does not start with'
        " '$'."
      )
  return {
    key: to_json(item, path=f'{path}[{key!r}]') for key, item in value.items()
  }


def _is_dtype(value: Any) -> bool:
  """Whether it is np.dtype('x'), np.float32 or jnp.float32."""
  if isinstance(value, np.dtype):
    return True
  if not isinstance(value, type):
    return False
  return issubclass(value, np.generic) or isinstance(
    getattr(value, 'dtype', None), np.dtype
  )


def _name_of(cls: type, *, path: str) -> str:
  """'module:QualName', having checked that a reader can import it."""
  name = f'{cls.__module__}:{cls.__qualname__}'
  if cls.__module__ == '__main__' or '<locals>' in cls.__qualname__:
    raise ValueError(
      f'{path} is a {name}, which no other program can import; define the'
      ' class at the top level of a module.'
    )
  return name


def _import(name: str) -> Any:
  """The class behind 'module:QualName'."""
  module_name, _, qualified_name = name.partition(':')
  try:
    target: Any = importlib.import_module(module_name)
    for part in qualified_name.split('.'):
      target = getattr(target, part)
  except (ImportError, AttributeError) as error:
    raise ValueError(
      f'The config class {name!r} cannot be imported ({error}); install or put'
      ' on PYTHONPATH the package that defines it, or use the version of it'
      ' that wrote the bundle.'
    ) from error
  return target


def _build(name: str, fields: dict[str, Any]) -> Any:
  """Calls the config class, with an error that names what does not fit."""
  cls = _import(name)
  if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
    raise ValueError(
      f'{name!r} is not a config dataclass; was model.json edited?'
    )
  known = {field.name: field for field in dataclasses.fields(cls) if field.init}
  unknown = sorted(set(fields) - set(known))
  missing = sorted(
    name
    for name, field in known.items()
    if name not in fields
    and field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  )
  if unknown or missing:
    raise ValueError(
      f'The config class {name!r} of this version has no field'
      f' {unknown or "that is unknown"} and needs {missing or "nothing more"};'
      f' it has {sorted(known)}. Use the version of the package that wrote the'
      ' bundle.'
    )
  return cls(**fields)
