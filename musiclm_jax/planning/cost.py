# SPDX-License-Identifier: Apache-2.0
"""What a traced step costs on one device of a mesh: FLOPs, memory, time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from musiclm_jax.planning.devices import Chip
from musiclm_jax.planning.program import Array, Operation, Region, Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
  """Bytes that a step needs besides its inputs, where they are the most.

  Attributes:
    rows: Of what grows with the batch: activations.
    others: Of all else: gradients, and a layer's parameters when gathered.
  """

  rows: float = 0.0
  others: float = 0.0

  @property
  def total(self) -> float:
    return self.rows + self.others

  def __add__(self, other: Peak) -> Peak:
    return Peak(rows=self.rows + other.rows, others=self.others + other.others)

  def __sub__(self, other: Peak) -> Peak:
    return Peak(rows=self.rows - other.rows, others=self.others - other.others)


def flops(region: Region, split: Split) -> float:
  """Of all products, on one device."""
  total = 0.0
  for operation in region.operations:
    if operation.flops is not None:
      total += operation.flops.at(split)
    if operation.body is not None:
      total += operation.length * flops(operation.body, split)
  return total


def summed_bytes(region: Region, split: Split) -> float:
  """What products sum over the tensor axis, on one device."""
  total = 0.0
  for operation in region.operations:
    if operation.meets is not None:
      total += operation.meets.at(split)
    if operation.body is not None:
      total += operation.length * summed_bytes(operation.body, split)
  return total


def peak(region: Region, split: Split) -> Peak:
  """The most memory at any time, by what lives when."""
  last_use = _last_uses(region)
  dying = {}
  live = most = Peak()
  for index, operation in enumerate(region.operations):
    for array in operation.makes:
      if array.number not in region.results:
        size = _occupied(array, region, split)
        live += size
        dying.setdefault(last_use[array.number], []).append(size)
    now = live
    if operation.body is not None:
      now += peak(operation.body, split)
    most = max(most, now, key=lambda found: found.total)
    for size in dying.pop(index, ()):
      live -= size
  return most


def seconds(region: Region, split: Split, chip: Chip) -> float:
  """Each product takes as long as it multiplies or reads, the longer of both.

  What is between two products is one pass over memory, which reads and writes
  once what others make and use.
  """
  last_use = _last_uses(region)
  total, reads, makes = 0.0, {}, {}
  for index, operation in enumerate(region.operations):
    if operation.flops is None and operation.body is None:
      reads |= {array.number: array for array in operation.reads}
      makes |= {array.number: array for array in operation.makes}
    else:
      total += _seconds_of_pass(
        reads, makes, index, last_use, region, split, chip
      )
      reads, makes = {}, {}
      total += (
        _seconds_of_product(operation, split, chip)
        if operation.body is None
        else operation.length * seconds(operation.body, split, chip)
      )
  end = len(region.operations)
  return total + _seconds_of_pass(
    reads, makes, end, last_use, region, split, chip
  )


def _last_uses(region: Region) -> dict[int, int]:
  """Of each array, the last operation that makes or reads it."""
  return {
    array.number: index
    for index, operation in enumerate(region.operations)
    for array in (*operation.reads, *operation.makes)
  }


def _seconds_of_pass(
  reads: Mapping[int, Array],
  makes: Mapping[int, Array],
  end: int,
  last_use: Mapping[int, int],
  region: Region,
  split: Split,
  chip: Chip,
) -> float:
  moved = [array for number, array in reads.items() if number not in makes]
  moved += [
    array
    for number, array in makes.items()
    if number in region.results or last_use[number] >= end
  ]
  return (
    sum(_bytes(array, split, is_whole=region.is_loop) for array in moved)
    / chip.bytes_per_second
  )


def _seconds_of_product(
  operation: Operation, split: Split, chip: Chip
) -> float:
  moved = sum(
    _bytes(array, split, is_whole=True)
    for array in (*operation.reads, *operation.makes)
  )
  rate = chip.flops_per_second
  if operation.is_float32:
    rate *= chip.float32_share
  for side in (operation.depth, operation.width):
    rate *= side / (math.ceil(side / chip.tile) * chip.tile)
  return max(moved / chip.bytes_per_second, operation.flops.at(split) / rate)


def _occupied(array: Array, region: Region, split: Split) -> Peak:
  size = _bytes(array, split, is_whole=region.is_loop)
  return Peak(rows=size) if array.size.power else Peak(others=size)


def _bytes(array: Array, split: Split, *, is_whole: bool) -> float:
  """On one device; what is as large as a parameter is gathered or stored."""
  size = array.size.at(split)
  if is_whole or not array.size.is_stored:
    return size
  return array.size.amount * split.stored_share
