# SPDX-License-Identifier: Apache-2.0
"""A step as what it multiplies, moves and keeps, from what JAX traces of it.

The step is traced once with a prime number of rows. A dimension that the prime
divides is then a dimension of the batch, so every size is known for every
number of rows, and what grows with the batch is told from what does not.

XLA fuses: the result of an elementwise operation is taken to exist only if its
inputs would take more memory, or a loop needs it. What is taken to exist is read and written once by
each operation that needs it, and lives from the first to the last of them. Ours,
and an estimate: the compiler's own figures are beside it in the documentation.

A loop's body counts as often as it runs; of branches the cheapest counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval

from musiclm_jax.training import products

# Divides no width of any model, and leaves sizes below 2**31.
PRIME_ROWS = 4093

# A mean and a variance beside what they are of are no reason to write it again.
_FUSES_BELOW = 1.1

# Results that no fusion recomputes. All else is elementwise or moves data.
_KEPT = frozenset((
  *products.PRODUCTS,
  'argmax', 'argmin', 'cumlogsumexp', 'cummax', 'cummin', 'cumprod', 'cumsum',
  'dynamic_update_slice', 'fft', 'gather', 'reduce', 'reduce_and',
  'reduce_max', 'reduce_min', 'reduce_or', 'reduce_prod', 'reduce_sum',
  'reduce_window', 'reduce_window_max', 'reduce_window_min',
  'reduce_window_sum', 'reduce_xor', 'scatter', 'scatter-add', 'scatter-max',
  'scatter-min', 'scatter-mul', 'scatter-sub', 'select_and_gather_add',
  'select_and_scatter', 'select_and_scatter_add', 'sort', 'top_k',
))  # fmt: skip
# The parameter that holds the body.
_LOOPS = {'scan': 'jaxpr', 'while': 'body_jaxpr'}
_CALLS = (
  'jit', 'pjit', 'closed_call', 'core_call', 'remat2', 'checkpoint', 'remat',
  'custom_jvp_call', 'custom_vjp_call', 'custom_vjp_call_jaxpr',
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
  """A number of bytes or of FLOPs that may grow with the batch.

  Attributes:
    amount: For `PRIME_ROWS` rows.
    power: How often the number of rows is a factor of it.
    is_wide: Whether it has a dimension that the tensor axis splits.
    is_stored: Whether it is as large as a parameter, and split like one.
  """

  amount: int
  power: int = 0
  is_wide: bool = False
  is_stored: bool = False

  def at(self, split: Split) -> float:
    """What one device has of it."""
    scale = (split.num_rows / PRIME_ROWS) ** self.power
    parts = split.row_parts if self.power else 1
    return self.amount * scale / parts / (split.tensor if self.is_wide else 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """Rows, and over how many devices arrays are split.

  Attributes:
    num_rows: Of a microbatch, of all devices together.
    row_parts: Devices that split the rows.
    tensor: Devices that split a layer.
    stored_share: Of what is as large as a parameter, on one device.
  """

  num_rows: int
  row_parts: int = 1
  tensor: int = 1
  stored_share: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Array:
  """A value of the program: its number and its size."""

  number: int
  size: Size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
  """One operation with its fused neighbours, or a loop.

  Attributes:
    reads: Arrays that exist, of this region or of an outer one.
    makes: The arrays that it writes.
    flops: Of a product; None of all else.
    depth: Multiply-adds of one number of a product.
    width: Of a product: the narrower of its two free sides.
    is_float32: Of a product's inputs.
    meets: What a product sums over the devices of the tensor axis.
    body: Of a loop.
    length: How often the body runs.
  """

  reads: tuple[Array, ...]
  makes: tuple[Array, ...]
  flops: Size | None = None
  depth: int = 0
  width: int = 0
  is_float32: bool = False
  meets: Size | None = None
  body: Region | None = None
  length: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
  """Operations in their order.

  Attributes:
    operations: All of them.
    results: Numbers of the arrays that outlive the region.
    is_loop: Whether it is a loop's body; what is as large as a parameter there
      is one layer's, gathered.
  """

  operations: tuple[Operation, ...]
  results: frozenset[int]
  is_loop: bool = False


def trace(
  function: Callable[..., Any],
  *args: Any,
  wide: Collection[int] = (),
  stored: Collection[int] = (),
) -> Region:
  """The operations of `function(*args)`; nothing is computed.

  Args:
    function: A train step, say.
    *args: Abstract; batches have a multiple of `PRIME_ROWS` rows.
    wide: Sizes of dimensions that the tensor axis splits.
    stored: How many numbers each parameter has.
  """
  closed = jax.make_jaxpr(function)(*args)
  jaxpr, used = partial_eval.dce_jaxpr(
    closed.jaxpr, [True] * len(closed.jaxpr.outvars)
  )
  del used
  return _Tracer(frozenset(wide), frozenset(stored)).region(
    jaxpr, is_loop=False
  )


Roots = dict[core.Var, tuple[Array, ...]]


class _Tracer:
  """Turns equations into operations."""

  def __init__(self, wide: frozenset[int], stored: frozenset[int]):
    self._wide = wide
    self._stored = stored
    self._count = 0

  def region(self, jaxpr: core.Jaxpr, *, is_loop: bool) -> Region:
    """Of which all inputs exist."""
    roots = {
      var: (self._array(var),) for var in (*jaxpr.invars, *jaxpr.constvars)
    }
    inputs = {a.number for found in roots.values() for a in found}
    operations: list[Operation] = []
    self._equations(jaxpr, roots, operations)
    results = self._write_results(jaxpr, roots, operations, inputs)
    return Region(
      operations=tuple(operations), results=results, is_loop=is_loop
    )

  def _equations(
    self,
    jaxpr: core.Jaxpr,
    roots: Roots,
    operations: list[Operation],
  ) -> None:
    for equation in jaxpr.eqns:
      inner = list(products.inner_jaxprs(equation.params))
      name = equation.primitive.name
      if name in _LOOPS:
        body = equation.params[_LOOPS[name]].jaxpr
        operations += self._written(equation, roots)
        operations.append(self._loop(equation, body, roots))
      elif name == 'cond':
        branch = min(inner, key=products.flops_in)
        self._call(equation, branch, equation.invars[1:], roots, operations)
      elif name in _KEPT:
        operations.append(self._kept(equation, roots))
      elif name in _CALLS:
        self._call(equation, inner[0], equation.invars, roots, operations)
      elif inner:
        raise ValueError(
          f'A step with {name!r} cannot be planned: what it does inside is not'
          ' known. Plan with another implementation (attention, say).'
        )
      else:
        self._fused(equation, roots, operations)

  def _call(
    self,
    equation: core.JaxprEqn,
    jaxpr: core.Jaxpr,
    invars: Sequence[Any],
    roots: Roots,
    operations: list[Operation],
  ) -> None:
    """Runs the equations of `jaxpr` in place."""
    inside = {
      var: self._roots(atom, roots) for var, atom in zip(jaxpr.invars, invars)
    }
    inside |= {var: () for var in jaxpr.constvars}
    self._equations(jaxpr, inside, operations)
    for var, atom in zip(equation.outvars, jaxpr.outvars):
      roots[var] = self._roots(atom, inside)

  def _written(self, equation: core.JaxprEqn, roots: Roots) -> list[Operation]:
    """Writes what a loop is given and no operation has written.

    What it carries starts where its results will stand, and is counted there.
    """
    operations, given = [], list(equation.invars)
    num_carried = equation.params.get('num_carry', len(equation.outvars))
    first = equation.params.get('num_consts', len(given) - num_carried)
    del given[first : first + num_carried]
    for atom in given:
      if isinstance(atom, core.Literal):
        continue
      found, size = self._roots(atom, roots), self._size(atom.aval)
      if found and [array.size for array in found] != [size]:
        made = Array(number=self._next(), size=size)
        operations.append(Operation(reads=found, makes=(made,)))
        roots[atom] = (made,)
    return operations

  def _loop(
    self, equation: core.JaxprEqn, jaxpr: core.Jaxpr, roots: Roots
  ) -> Operation:
    makes = tuple(self._array(var) for var in equation.outvars)
    roots |= {var: (made,) for var, made in zip(equation.outvars, makes)}
    return Operation(
      reads=self._reads(equation, roots),
      makes=makes,
      body=self.region(jaxpr, is_loop=True),
      length=equation.params.get('length', 1),
    )

  def _kept(self, equation: core.JaxprEqn, roots: Roots) -> Operation:
    makes = tuple(self._array(var) for var in equation.outvars)
    roots |= {var: (made,) for var, made in zip(equation.outvars, makes)}
    operation = Operation(reads=self._reads(equation, roots), makes=makes)
    if equation.primitive.name not in products.PRODUCTS:
      return operation
    return dataclasses.replace(operation, **self._product(equation))

  def _product(self, equation: core.JaxprEqn) -> dict[str, Any]:
    """What is to be known of a matrix product or a convolution."""
    left, right = (var.aval for var in equation.invars)
    out = equation.outvars[0].aval
    flops = products.flops_of_product(equation)
    wide = any(self._is_wide(aval.shape) for aval in (left, right, out))
    depth = max(flops // (2 * max(out.size, 1)), 1)
    meets = None
    if equation.primitive.name == 'dot_general':
      (axes, right_axes), (batch, right_batch) = equation.params[
        'dimension_numbers'
      ]
      sides = [
        math.prod(n for axis, n in enumerate(aval.shape) if axis not in taken)
        for aval, taken in (
          (left, (*axes, *batch)),
          (right, (*right_axes, *right_batch)),
        )
      ]
      if any(left.shape[axis] in self._wide for axis in axes):
        meets = self._size(out)
    else:
      spec = equation.params['dimension_numbers'].rhs_spec
      sides = [right.shape[spec[0]], out.size // right.shape[spec[0]]]
    return {
      'flops': _size(flops, is_wide=wide),
      'depth': depth,
      'width': min(sides),
      'is_float32': left.dtype.itemsize >= 4,
      'meets': meets,
    }

  def _fused(
    self,
    equation: core.JaxprEqn,
    roots: Roots,
    operations: list[Operation],
  ) -> None:
    """An elementwise result: what it is made from, if that is smaller."""
    reads = self._reads(equation, roots)
    out = sum(self._size(var.aval).amount for var in equation.outvars)
    made_from = sum(array.size.amount for array in reads)
    if made_from <= _FUSES_BELOW * out:
      for var in equation.outvars:
        roots[var] = reads
      return
    makes = tuple(self._array(var) for var in equation.outvars)
    operations.append(Operation(reads=reads, makes=makes))
    roots |= {var: (made,) for var, made in zip(equation.outvars, makes)}

  def _write_results(
    self,
    jaxpr: core.Jaxpr,
    roots: Roots,
    operations: list[Operation],
    inputs: set[int],
  ) -> frozenset[int]:
    """Results of fusions are written at the end; numbers of all results."""
    results = set()
    for atom in jaxpr.outvars:
      found = self._roots(atom, roots)
      if len(found) == 1 and found[0].size == self._size(atom.aval):
        if found[0].number not in inputs:
          results.add(found[0].number)
        continue
      made = Array(number=self._next(), size=self._size(atom.aval))
      operations.append(Operation(reads=found, makes=(made,)))
      results.add(made.number)
    return frozenset(results)

  def _reads(self, equation: core.JaxprEqn, roots: Roots) -> tuple[Array, ...]:
    found = {
      array.number: array
      for atom in equation.invars
      for array in self._roots(atom, roots)
    }
    return tuple(found.values())

  def _roots(self, atom: Any, roots: Roots) -> tuple[Array, ...]:
    return () if isinstance(atom, core.Literal) else roots.get(atom, ())

  def _array(self, var: core.Var) -> Array:
    return Array(number=self._next(), size=self._size(var.aval))

  def _next(self) -> int:
    self._count += 1
    return self._count

  def _size(self, aval: Any) -> Size:
    # Keys have a type of their own, and are small.
    width = getattr(aval.dtype, 'itemsize', 4)
    amount = math.prod(aval.shape) * width
    return _size(
      amount,
      is_wide=self._is_wide(aval.shape),
      is_stored=math.prod(aval.shape) in self._stored,
    )

  def _is_wide(self, shape: tuple[int, ...]) -> bool:
    return any(side in self._wide for side in shape)


def _size(amount: int, *, is_wide: bool, is_stored: bool = False) -> Size:
  power, rest = 0, amount
  while rest and rest % PRIME_ROWS == 0:
    power, rest = power + 1, rest // PRIME_ROWS
  return Size(amount=amount, power=power, is_wide=is_wide, is_stored=is_stored)
