# SPDX-License-Identifier: Apache-2.0
"""A function of all rows of a batch, computed for some rows at a time.

Shapes: [batch, ...] in and out; part = rows of the global batch that are there
at the same time, spread over the mesh as the batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from musiclm_jax import axes


def map_parts(
  function: Callable[[Any], Any],
  rows: Any,
  *,
  part_rows: int | None,
) -> Any:
  """`function` of some rows of a tree at a time; its results, row by row.

  Args:
    function: Of a tree of [part, ...] to a tree of [part, ...].
    rows: A tree of [batch, ...].
    part_rows: Rows of the global batch at a time, a divisor; all if None.
  """
  num_rows = len(jax.tree.leaves(rows)[0])
  if part_rows is None or part_rows == num_rows:
    return function(rows)
  if num_rows % part_rows:
    raise ValueError(
      f'A batch of {num_rows} rows does not divide into parts of {part_rows};'
      ' choose a divisor.'
    )
  num_parts = num_rows // part_rows

  def split(leaf: jax.Array) -> jax.Array:
    # Row r goes to part r % n: every device keeps the rows it has.
    leaf = leaf.reshape(part_rows, num_parts, *leaf.shape[1:]).swapaxes(0, 1)
    return nn.with_logical_constraint(
      leaf, (None, axes.BATCH) + (None,) * (leaf.ndim - 2)
    )

  def join(leaf: jax.Array) -> jax.Array:
    leaf = leaf.swapaxes(0, 1)
    return leaf.reshape(num_rows, *leaf.shape[2:])

  parts = jax.lax.map(function, jax.tree.map(split, rows))
  return jax.tree.map(join, parts)
