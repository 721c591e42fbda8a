# SPDX-License-Identifier: Apache-2.0
"""One way to make a parameter, for both styles of naming its axes.

Flax boxes logical axis names with the value (`nn.LogicallyPartitioned`), which
our partitioner reads. t5x wants bare values and a second collection,
`params_axes`. Layers call `param` and never know which of the two is asked for.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import linen as nn
from flax.linen import partitioning as legacy_partitioning

_PARAMS_AXES_STYLE = contextvars.ContextVar('params_axes_style', default=False)


@contextlib.contextmanager
def params_axes_style() -> Iterator[None]:
  """Within it, `init` gives bare parameters and a `params_axes` collection."""
  token = _PARAMS_AXES_STYLE.set(True)
  try:
    yield
  finally:
    _PARAMS_AXES_STYLE.reset(token)


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
  if _PARAMS_AXES_STYLE.get():
    return legacy_partitioning.param_with_axes(
      name, init, shape, dtype, axes=axes, module=module
    )
  return module.param(
    name, nn.with_logical_partitioning(init, axes), shape, dtype
  )
