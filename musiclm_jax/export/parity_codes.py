# SPDX-License-Identifier: Apache-2.0
"""Whether codes that differ may differ: is the margin smaller than the error?

With scores |c|² - 2 p·c of a point p, a move of p by d changes the difference
between two centroids by at most 2 |d| |c_i - c_j|; what float32 rounds off in
the scores comes on top. A code that differs although both are further apart is
a defect.

Shapes: points are [points, dim], centroids [codes, dim], codes [points].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

_EPSILON = float(np.finfo(np.float32).eps)

Points = Float[np.ndarray, 'points dim']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flips:
  """Where codes differ.

  Attributes:
    num_differing: Points, those after an earlier level that differs left out.
    num_unexplained: Of them, those whose margin exceeds the error.
  """

  num_differing: int
  num_unexplained: int

  @property
  def note(self) -> str:
    if not self.num_differing:
      return ''
    return (
      f'({self.num_differing} differ first, {self.num_unexplained} of them by'
      ' more than the error)'
    )


def nearest_flips(
  wanted_points: Points,
  got_points: Points,
  *,
  centroids: Float[np.ndarray, 'codes dim'],
  wanted: Int[np.ndarray, ' points'],
  got: Int[np.ndarray, ' points'],
) -> Flips:
  """Of codes that are nearest centroids, searched for on both sides."""
  differ = wanted != got
  beyond = _beyond_error(
    wanted_points[differ],
    got_points[differ],
    centroids=centroids.astype(np.float64),
    wanted=wanted[differ],
    got=got[differ],
  )
  return Flips(
    num_differing=int(differ.sum()), num_unexplained=int(beyond.sum())
  )


def residual_flips(
  wanted_latents: Points,
  got_latents: Points,
  *,
  quantizer: Mapping[str, Any],
  wanted: Int[np.ndarray, 'points levels'],
  got: Int[np.ndarray, 'points levels'],
) -> Flips:
  """Of residual codes, each point up to the first level that differs.

  Args:
    wanted_latents: JAX's.
    got_latents: PyTorch's.
    quantizer: `embeddings` of all levels; `project_in` and `project_out` if it
      is factorized.
    wanted: JAX's codes.
    got: PyTorch's.
  """
  arrays = {
    name: np.asarray(leaf, np.float64)
    for name, leaf in quantizer.items()
    if name in ('embeddings', 'project_in', 'project_out')
  }
  residuals = [
    points.astype(np.float64) for points in (wanted_latents, got_latents)
  ]
  same = np.ones(len(wanted), bool)
  num_differing = num_unexplained = 0
  for level, embeddings in enumerate(arrays['embeddings']):
    searched, inner = embeddings, residuals
    if 'project_in' in arrays:
      searched = _unit(embeddings)
      inner = [_unit(rows @ arrays['project_in'][level]) for rows in residuals]
    flips = nearest_flips(
      inner[0][same],
      inner[1][same],
      centroids=searched,
      wanted=wanted[same, level],
      got=got[same, level],
    )
    num_differing += flips.num_differing
    num_unexplained += flips.num_unexplained
    same &= wanted[:, level] == got[:, level]
    chosen = embeddings[wanted[:, level]]
    if 'project_out' in arrays:
      chosen = chosen @ arrays['project_out'][level]
    residuals = [rows - chosen for rows in residuals]
  return Flips(num_differing=num_differing, num_unexplained=num_unexplained)


def _beyond_error(
  wanted_points: Points,
  got_points: Points,
  *,
  centroids: Float[np.ndarray, 'codes dim'],
  wanted: Int[np.ndarray, ' points'],
  got: Int[np.ndarray, ' points'],
) -> Bool[np.ndarray, ' points']:
  points = wanted_points.astype(np.float64)
  ours, theirs = centroids[wanted], centroids[got]
  margin = _scores(points, theirs) - _scores(points, ours)
  moved = np.linalg.norm(got_points - points, axis=-1)
  apart = np.linalg.norm(ours - theirs, axis=-1)
  # Of a sum of `dim` products in float32, in either score and on either side.
  length = np.linalg.norm(points, axis=-1)
  longest = np.maximum(
    np.linalg.norm(ours, axis=-1), np.linalg.norm(theirs, axis=-1)
  )
  rounded = points.shape[-1] * _EPSILON * (longest**2 + 2 * length * longest)
  return np.abs(margin) > 2 * moved * apart + 2 * rounded


def _scores(points: Points, centroids: Points) -> Float[np.ndarray, ' points']:
  return np.sum(centroids**2, axis=-1) - 2 * np.sum(points * centroids, axis=-1)


def _unit(rows: Points) -> Points:
  norms = np.linalg.norm(rows, axis=-1, keepdims=True)
  return rows / np.where(norms == 0, 1, norms)
