# SPDX-License-Identifier: Apache-2.0
"""Counts the FLOPs of a function's products, from what JAX traces of it.

Two a multiply-add of every matrix product and convolution; elementwise work and
FFTs do not count. Zeros between the taps of a dilated convolution do not count
either. Where there are several forms of one computation, as for one platform
and the others, the cheapest counts: what the others do more is not useful.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

PRODUCTS = ('dot_general', 'conv_general_dilated')


def flops_of(function: Callable[..., Any], *args: Any) -> int:
  """FLOPs of the products of `function(*args)`; nothing is computed.

  A loop with no fixed number of rounds counts as one.
  """
  return flops_in(jax.make_jaxpr(function)(*args).jaxpr)


def flops_in(jaxpr: jax.extend.core.Jaxpr) -> int:
  """Of all products of `jaxpr`."""
  return sum(_flops_of_equation(equation) for equation in jaxpr.eqns)


def _flops_of_equation(equation: jax.extend.core.JaxprEqn) -> int:
  if equation.primitive.name in PRODUCTS:
    return flops_of_product(equation)
  inner = [flops_in(jaxpr) for jaxpr in inner_jaxprs(equation.params)]
  if equation.primitive.name == 'cond':
    return min(inner)
  return sum(inner) * equation.params.get('length', 1)


def flops_of_product(equation: jax.extend.core.JaxprEqn) -> int:
  """Of one matrix product or convolution."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    depth = math.prod(shape[axis] for axis in contracted)
    return 2 * depth * equation.outvars[0].aval.size
  kernel = equation.invars[1].aval
  features = kernel.shape[params['dimension_numbers'].rhs_spec[0]]
  # An input dilated by zeros, as in a transposed convolution, meets so many
  # fewer of the taps.
  zeros = math.prod(params['lhs_dilation'])
  taps = kernel.size // features
  return 2 * taps * equation.outvars[0].aval.size // zeros


def inner_jaxprs(params: dict[str, Any]) -> Iterator[jax.extend.core.Jaxpr]:
  """Those that an equation with `params` runs."""
  for value in params.values():
    for item in value if isinstance(value, tuple) else (value,):
      jaxpr = getattr(item, 'jaxpr', item)
      if hasattr(jaxpr, 'eqns'):
        yield jaxpr
