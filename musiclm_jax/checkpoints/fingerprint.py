# SPDX-License-Identifier: Apache-2.0
"""Fingerprints: one name for one set of weights and its config.

SHA-256 over the sorted (path, dtype, shape, hash of the bytes) of every leaf
and the canonical JSON of the config. Two bundles with one fingerprint give the
same codes; a stage and a corpus state the fingerprints they were made with.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax.checkpoints import config_json

SEPARATOR = '/'


def fingerprint(weights: Mapping[str, np.ndarray], *, config: Any) -> str:
  """Names `weights` (flat, by path) together with the JSON of their config."""
  leaves = [
    [path, array.dtype.name, list(array.shape), leaf_hash(array)]
    for path, array in sorted(weights.items())
  ]
  text = config_json.canonical_json({'config': config, 'weights': leaves})
  return hashlib.sha256(text.encode()).hexdigest()


def flatten(weights: Mapping[Any, Any], *, prefix: str = '') -> dict[str, Any]:
  """Nested dicts to one dict by path: 'params/encoder/kernel'."""
  leaves: dict[str, Any] = {}
  for name, value in weights.items():
    if not isinstance(name, str) or SEPARATOR in name or not name:
      raise ValueError(
        f'{prefix}{name!r} cannot be part of a path: names are non-empty text'
        f' without {SEPARATOR!r}.'
      )
    if isinstance(value, Mapping):
      leaves.update(flatten(value, prefix=f'{prefix}{name}{SEPARATOR}'))
    else:
      leaves[prefix + name] = value
  return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flatten`."""
  nested: dict[str, Any] = {}
  for path, value in leaves.items():
    *parents, name = path.split(SEPARATOR)
    branch = nested
    for parent in parents:
      branch = branch.setdefault(parent, {})
    branch[name] = value
  return nested


def leaf_hash(array: np.ndarray) -> str:
  """SHA-256 of the values of one leaf."""
  if sys.byteorder != 'little':
    # Bytes as they lie on disk, so that a bundle has one name everywhere.
    array = array.byteswap()
  # A view as bytes: ml_dtypes arrays do not offer the buffer protocol.
  flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  return hashlib.sha256(flat).hexdigest()
