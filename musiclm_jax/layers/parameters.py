# SPDX-License-Identifier: Apache-2.0
"""One way to make a parameter: boxed with the logical names of its axes.

Our partitioner reads the boxes (`nn.LogicallyPartitioned`), and
`integrations.t5x` makes t5x's `params_axes` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


def param(
  module: nn.Module,
  name: str,
  init: Callable[..., jax.Array],
  shape: tuple[int, ...],
  dtype: Any,
  *,
  axes: tuple[str | None, ...],
) -> jax.Array:
  """Makes or reads the parameter `name` of `module`.

  Args:
    module: The module that owns it, inside its `setup` or compact method.
    name: Its name in the 'params' collection.
    init: Initializer, called as `init(key, shape, dtype)` at the full shape.
    shape: Its shape, one dimension an axis.
    dtype: The stored type.
    axes: Logical names from `musiclm_jax.axes`, one a dimension.

  Returns:
    The bare value.
  """
  if len(axes) != len(shape):
    raise ValueError(
      f'{name!r} of shape {shape} has axes {axes}: one a dimension.'
    )
  return module.param(
    name, nn.with_logical_partitioning(init, axes), shape, dtype
  )
