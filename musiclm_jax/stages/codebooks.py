# SPDX-License-Identifier: Apache-2.0
"""Tables of a stage that begin as the codebooks of the models that made its codes.

A code is a number to a stage, and of a thousand numbers it must learn one by one
which sound alike; the codec, the semantic tokenizer and the conditioner know,
for each of their codes stands for a vector. Ours: the papers' tables begin at
random, and have a million steps to find that out.

Shapes: codes and dim = size of a codebook and width of its vectors, embed = the
model's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jaxtyping import Float

from musiclm_jax.array_types import PRNGKey
from musiclm_jax.stages.layout import StageLayout

# Of a row's variance; the rest stays random, so that two codes of one vector
# are still told apart.
_SHARE = 0.8


def start_tables(
  params: Mapping[str, Any],
  *,
  layout: StageLayout,
  codebooks: Mapping[str, Float[np.ndarray, 'levels codes dim']],
  key: PRNGKey,
) -> dict[str, Any]:
  """Fresh parameters with the codebooks in both tables.

  A table keeps its scale: each level's rows get the standard deviation that
  they had.

  Args:
    params: Of a `StageLM`, boxed or not.
    layout: Of its rows.
    codebooks: By stream; rows of other streams stay as they are.
    key: Of the projections to the model's width.
  """
  _require_fit(layout, codebooks)
  vectors = {
    first: _spread(codebooks[name][level])
    for (name, level), first in layout.first_ids.items()
    if name in codebooks
  }
  input_key, logit_key = jax.random.split(key)
  table = params['inputs']['table']
  return {
    **params,
    'inputs': {'table': _started(table, vectors, key=input_key)},
    'logit_table': _started(params['logit_table'], vectors, key=logit_key),
  }


def _started(
  boxed: Any, vectors: Mapping[int, np.ndarray], *, key: PRNGKey
) -> Any:
  """A table with the vectors of each level, by the id of its code 0."""
  table = meta.unbox(boxed)
  for first, of_level in vectors.items():
    key, level_key = jax.random.split(key)
    rows = table[first : first + len(of_level)]
    projection = jax.random.normal(
      level_key, (of_level.shape[1], table.shape[1]), table.dtype
    )
    projected = jnp.asarray(of_level, table.dtype) @ projection
    projected = projected * (jnp.std(rows) / jnp.std(projected))
    mixed = _SHARE**0.5 * projected + (1 - _SHARE) ** 0.5 * rows
    table = table.at[first : first + len(of_level)].set(mixed)
  return meta.replace_boxed(boxed, table)


def _spread(
  vectors: Float[np.ndarray, 'codes dim'],
) -> Float[np.ndarray, 'codes rank']:
  """Principal coordinates, each scaled down by the root of its spread.

  Between the codebook as it is, of which a few directions are nearly all, and
  one whose least direction counts as much as its first.
  """
  vectors = np.asarray(vectors, np.float64)
  left, scales, _ = np.linalg.svd(
    vectors - vectors.mean(axis=0), full_matrices=False
  )
  return left * np.sqrt(scales)


def _require_fit(
  layout: StageLayout, codebooks: Mapping[str, np.ndarray]
) -> None:
  for name, stream in layout.spec.streams.items():
    if name not in codebooks:
      continue
    wanted = (stream.num_codebooks, stream.codebook_size)
    if codebooks[name].shape[:2] != wanted:
      raise ValueError(
        f'The codebooks of {name!r} are {list(codebooks[name].shape)}; its'
        f' stream has {wanted[0]} of {wanted[1]} codes. Take those of the'
        ' models that made the codes.'
      )
    widths = np.ptp(codebooks[name], axis=1).max(axis=1)
    if not (np.isfinite(widths) & (widths > 0)).all():
      raise ValueError(
        f'A codebook of {name!r} is one vector for all codes, or not finite, so'
        ' the model that made the codes is broken; tokenize with another, or'
        " train without 'stages/codebooks.gin'."
      )
