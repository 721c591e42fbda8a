# SPDX-License-Identifier: Apache-2.0
"""Keys and values of the positions that a decoder has behind it.

A cache has a fixed capacity while a compiled loop runs, and grows between
loops: slicing its filled part inside a loop makes XLA copy it at every step.

Shapes: batch = rows, heads, capacity = positions there is room for, kv = width
of one head.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_CAPACITY_AXIS = 2


@flax.struct.dataclass
class LayerCache:
  """What one attention layer remembers.

  Attributes:
    key: Of each position; whatever lies beyond the filled part is not read.
    value: Of each position.
  """

  # Not typed as arrays: the same tree also holds shapes and shardings.
  key: Any  # [batch, heads, capacity, kv]
  value: Any  # [batch, heads, capacity, kv]

  @classmethod
  def of(
    cls,
    key: Float[Array, 'batch length heads kv'],
    value: Float[Array, 'batch length heads kv'],
  ) -> LayerCache:
    """Of a whole sequence, with no room to spare."""
    return cls(key.swapaxes(1, 2), value.swapaxes(1, 2))

  @property
  def capacity(self) -> int:
    """Positions there is room for."""
    return self.key.shape[_CAPACITY_AXIS]

  def write(
    self,
    key: Float[Array, 'batch 1 heads kv'],
    value: Float[Array, 'batch 1 heads kv'],
    *,
    position: Int[Array, ''],
  ) -> LayerCache:
    """With one position of every row filled in."""

    def put(cached: jax.Array, new: jax.Array) -> jax.Array:
      return jax.lax.dynamic_update_slice_in_dim(
        cached, new.swapaxes(1, 2), position, axis=_CAPACITY_AXIS
      )

    return LayerCache(put(self.key, key), put(self.value, value))


def grow(caches: Any, *, capacity: int) -> Any:
  """Every `LayerCache` of the tree with room for `capacity` positions."""

  def pad(cached: jax.Array) -> jax.Array:
    room = capacity - cached.shape[_CAPACITY_AXIS]
    return jnp.pad(cached, ((0, 0), (0, 0), (0, room), (0, 0)))

  return jax.tree.map(pad, caches)
