# SPDX-License-Identifier: Apache-2.0
"""Blocks on top of one another: rematerialized, scanned, and apart again.

Scanned blocks are one program over stacked parameters, which compiles faster
than a program of each. A block takes the stream and what it is read with, and
returns the stream and a second thing, None when scanned.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from musiclm_jax import axes


def rematerialized(block: Any, *, scanned: bool) -> Any:
  """The block, whose activations a training step computes again."""
  # Inside a scan nothing can be merged with the first computation.
  return nn.remat(block, prevent_cse=not scanned)


def scanned(block: Any, *, num_blocks: int) -> Any:
  """As many blocks as one; all are read with the same."""
  return nn.scan(
    block,
    variable_axes={'params': 0},
    split_rngs={'params': True, 'dropout': True},
    in_axes=nn.broadcast,
    length=num_blocks,
    metadata_params={nn.PARTITION_NAME: axes.LAYERS},
  )


def unstack(
  params: Any, *, stacked: str, separate: str, num_blocks: int
) -> dict[str, Any]:
  """Parameters with an entry a block instead of one for all.

  Those that have none for all come back as they are.

  Args:
    params: Of the module that holds the blocks.
    stacked: The name of the scanned blocks.
    separate: What the names of separate ones begin with, such as 'layer'.
    num_blocks: How many there are.
  """
  if stacked not in params:
    return dict(params)
  apart = {name: leaf for name, leaf in params.items() if name != stacked}
  for index in range(num_blocks):
    apart[f'{separate}_{index}'] = jax.tree.map(
      lambda leaf: leaf[index],  # noqa: B023
      params[stacked],
    )
  return apart
