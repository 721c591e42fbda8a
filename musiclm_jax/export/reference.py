# SPDX-License-Identifier: Apache-2.0
"""A bundle as it is compared: float32, and a layer at a time.

Models that were trained in bfloat16, or with all layers as one program, are the
same models so; PyTorch's are made like that.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.checkpoints.bundle import BundleContents
from musiclm_jax.export import naming

_Contents = TypeVar('_Contents', bound=BundleContents)

# What says how a model is computed, and not which model it is.
_COMPUTED = {
  'dtype': 'float32',
  'param_dtype': 'float32',
  'scan_layers': False,
  'remat': False,
  'attention': 'einsum',
}


def plain(found: _Contents) -> _Contents:
  """The bundle with weights in float32 and separate layers."""
  leaves = naming.separate(fingerprints.flatten(found.weights))
  return dataclasses.replace(
    found,
    config=_plain_config(found.config),
    weights=fingerprints.unflatten(
      {path: _float32(leaf) for path, leaf in leaves.items()}
    ),
  )


def _plain_config(value: Any) -> Any:
  """A config, or a field of one."""
  if not dataclasses.is_dataclass(value):
    return value
  fields = {f.name for f in dataclasses.fields(value) if f.init}
  changed = {name: new for name, new in _COMPUTED.items() if name in fields}
  for name in fields - changed.keys():
    changed[name] = _plain_config(getattr(value, name))
  return dataclasses.replace(value, **changed)


def _float32(leaf: np.ndarray) -> np.ndarray:
  # NumPy does not count bfloat16 to the floats.
  is_half = leaf.dtype.itemsize == 2 and leaf.dtype.kind in 'fV'
  return leaf.astype(np.float32) if is_half else leaf
