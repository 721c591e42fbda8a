# SPDX-License-Identifier: Apache-2.0
"""Warm start: fresh variables with the weights of another bundle put in.

A leaf is taken where path and shape agree, whatever its precision. What does
not agree stays as it was initialised, and is named: a warm start that silently
took nothing would look like a bad run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.checkpoints.bundle import Bundle


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStarted:
  """Variables after a warm start.

  Attributes:
    variables: Of the structure, types and shardings that they had.
    taken: Paths that came from the bundle.
    kept: Paths that did not, each with the reason.
    unused: Paths of the bundle that the model does not have.
  """

  variables: dict[str, Any]
  taken: tuple[str, ...]
  kept: Mapping[str, str]
  unused: tuple[str, ...]


def from_bundle(variables: Mapping[str, Any], *, bundle: Bundle) -> WarmStarted:
  """Puts the bundle's weights into `variables`.

  Args:
    variables: Linen collections of arrays without boxes: {'params': ...}.
    bundle: Where the weights come from; of any kind.

  Returns:
    New variables, and what did and did not match.

  Raises:
    ValueError: Nothing matches.
  """
  wanted = fingerprints.flatten(variables)
  offered = fingerprints.flatten(bundle.weights)
  kept = {
    path: _misfit(leaf, offered.get(path))
    for path, leaf in wanted.items()
    if path not in offered or offered[path].shape != leaf.shape
  }
  taken = tuple(path for path in wanted if path not in kept)
  unused = tuple(path for path in offered if path not in wanted)
  if not taken:
    raise ValueError(
      f'No weight of {bundle.directory} ({bundle.kind}) has the path and shape'
      f' of one here: it has {_some(offered)}, wanted are {_some(wanted)}. Warm'
      ' start from a bundle of this model, or leave the warm start out.'
    )
  filled = wanted | {
    path: _place(offered[path], wanted[path]) for path in taken
  }
  logging.info('Warm start: %d weights of %s.', len(taken), bundle.directory)
  for path, reason in kept.items():
    logging.warning('Warm start: %s stays as initialised: %s.', path, reason)
  for path in unused:
    logging.warning('Warm start: %s of the bundle is not used.', path)
  return WarmStarted(
    variables=fingerprints.unflatten(filled),
    taken=taken,
    kept=kept,
    unused=unused,
  )


def _misfit(leaf: jax.Array, offered: np.ndarray | None) -> str:
  if offered is None:
    return 'the bundle does not have it'
  return f'{offered.shape} in the bundle, {leaf.shape} here'


def _place(value: np.ndarray, leaf: jax.Array) -> jax.Array:
  """`value` in the type and on the devices of `leaf`, each host its shards."""
  value = value.astype(leaf.dtype)
  return jax.make_array_from_callback(
    value.shape, leaf.sharding, lambda index: value[index]
  )


def _some(paths: Mapping[str, Any]) -> str:
  first = sorted(paths)[:3]
  return ', '.join(first) + (' …' if len(paths) > len(first) else '')
