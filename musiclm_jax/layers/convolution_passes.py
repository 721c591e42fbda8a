# SPDX-License-Identifier: Apache-2.0
"""The passes of a convolution, written as what XLA:CPU is fast at.

XLA:CPU runs a plain convolution at the rate of a matrix product. It is many
times slower at both gradients of a strided convolution, at every kernel
gradient, and at grouped convolutions. Instead:

- a stride becomes channels (space to depth), so that the gradient towards the
  inputs is a plain convolution by the flipped kernel;
- the gradient towards the kernel is one matrix product. Each tap is a shift of
  the inputs plus a delay of the outputs, [3, 3] taps are 3 of each: both
  operands of the product are then wide, and each is copied 3 times, not 9.

Shapes: inputs are [batch, time, bins, channels_in], kernels [time taps, bin
taps, channels_in / groups, channels_out], with the outputs of a group adjacent.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

# Measured on two cores with AVX-512: multiply-adds that copying and packing one
# operand element costs; rows of one partial product; what counts as few.
_PACKING_COST = 50
_PRODUCT_ROWS = 16384
_FEW_CHANNELS = 4
_BINS_AT_ONCE = 8

_LAYOUTS = {1: ('NTC', 'TIO', 'NTC'), 2: ('NHWC', 'HWIO', 'NHWC')}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
  """What a convolution over (time, bins) does, apart from its operands.

  Attributes:
    strides: Input steps an output step, of each axis.
    padding: Zeros (before, after) each axis.
    dilation: Input steps from one tap to the next, of each axis.
    num_groups: Groups of channels that do not mix.
  """

  strides: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]
  dilation: tuple[int, int] = (1, 1)
  num_groups: int = 1

  def __post_init__(self):
    for stride, dilation in zip(self.strides, self.dilation, strict=True):
      if stride > 1 and dilation > 1:
        raise ValueError(
          f'A convolution with strides {self.strides} and dilation'
          f' {self.dilation}: along one axis only one of the two may be above 1.'
        )


def xla_convolve(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """XLA's own convolution, what this module must equal."""
  # One bin and one bin tap: as over time alone, four times faster on CPU.
  axes = 1 if inputs.shape[2] == kernel.shape[1] == 1 else 2
  outputs = jax.lax.conv_general_dilated(
    inputs if axes == 2 else inputs[:, :, 0],
    kernel if axes == 2 else kernel[:, 0],
    window_strides=geometry.strides[:axes],
    padding=geometry.padding[:axes],
    rhs_dilation=geometry.dilation[:axes],
    dimension_numbers=_LAYOUTS[axes],
    feature_group_count=geometry.num_groups,
  )
  return outputs if axes == 2 else outputs[:, :, None]


def xla_gradient(
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
  geometry: Geometry,
  wrt: int,
) -> jax.Array:
  _, pull_back = jax.vjp(
    lambda *operands: xla_convolve(*operands, geometry), inputs, kernel
  )
  return pull_back(cotangent)[wrt]


def forward(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  if geometry.num_groups == 1:
    return xla_convolve(inputs, kernel, geometry)
  unit = _Unit.of(inputs.shape, kernel.shape, geometry)
  return _plain_convolve(
    unit.fold_inputs(inputs),
    unit.fold_kernel(kernel),
    Geometry(
      strides=(1, 1),
      padding=((0, 0), (0, 0)),
      dilation=geometry.dilation,
      num_groups=geometry.num_groups,
    ),
  )


def _plain_convolve(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """A convolution of stride 1; grouped ones over time as batched products.

  Taps are split as for the gradient of the kernel: the inputs are shifted for
  some, and what the product makes of them is added up with delays for others.
  """
  if geometry.num_groups == 1 or kernel.shape[1] > 1:
    return xla_convolve(inputs, kernel, geometry)
  groups, (before, after) = geometry.num_groups, geometry.padding[0]
  taps, _, channels, features = kernel.shape
  features //= groups
  shifts, delays = _split_taps(
    (taps, 1), geometry.dilation, channels=channels, features=features
  )
  reach = (taps - 1) * geometry.dilation[0]
  batch, time, bins, _ = inputs.shape
  time += before + after - reach
  columns = _side_by_side(
    _groups_first(inputs, groups),
    [(shift - before, 0) for shift, _ in shifts],
    time + delays[-1],
    bins,
  )
  missing = len(shifts) * len(delays) - taps
  kernel = _pad(kernel[:, 0], [(0, missing, 0), (0, 0, 0), (0, 0, 0)])
  kernel = kernel.reshape(len(delays), len(shifts), channels, groups, features)
  kernel = kernel.transpose(3, 1, 2, 0, 4)
  products = jnp.matmul(
    columns.reshape(groups, -1, columns.shape[-1]),
    kernel.reshape(groups, columns.shape[-1], -1),
  ).reshape(groups, batch, -1, bins, len(delays), features)
  outputs = sum(
    products[:, :, delay : delay + time, :, index]
    for index, delay in enumerate(delays)
  )
  return jnp.moveaxis(outputs, 0, -2).reshape(batch, time, bins, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Unit:
  """A convolution as one of stride 1 without padding, strides as channels.

  Attributes:
    geometry: Of the original.
    in_shape: Of the original inputs.
    kernel_shape: Of the original kernel.
    out_shape: Output steps of each axis.
  """

  geometry: Geometry
  in_shape: tuple[int, ...]
  kernel_shape: tuple[int, ...]
  out_shape: tuple[int, int]

  @classmethod
  def of(
    cls,
    in_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    geometry: Geometry,
  ) -> _Unit:
    out_shape = tuple(
      (size + sum(sides) - (taps - 1) * dilation - 1) // stride + 1
      for size, sides, taps, dilation, stride in zip(
        in_shape[1:3],
        geometry.padding,
        kernel_shape[:2],
        geometry.dilation,
        geometry.strides,
        strict=True,
      )
    )
    return cls(
      geometry=geometry,
      in_shape=in_shape,
      kernel_shape=kernel_shape,
      out_shape=out_shape,
    )

  @property
  def taps(self) -> tuple[int, int]:
    """Taps of the folded kernel."""
    return tuple(
      -(-taps // stride)
      for taps, stride in zip(self.kernel_shape[:2], self.geometry.strides)
    )

  @property
  def pads(self) -> list[tuple[int, int, int]]:
    """What brings the inputs to whole strides; may cut an unread end off."""
    pads = [(0, 0, 0)]
    for axis in range(2):
      before = self.geometry.padding[axis][0]
      reach = (self.taps[axis] - 1) * self.geometry.dilation[axis]
      blocks = self.out_shape[axis] + reach
      length = blocks * self.geometry.strides[axis]
      pads.append((before, length - before - self.in_shape[axis + 1], 0))
    return [*pads, (0, 0, 0)]

  def fold_inputs(self, inputs: jax.Array) -> jax.Array:
    """[batch, time blocks, bin blocks, groups * (strides, channels)]."""
    rows, columns = self.geometry.strides
    inputs = _pad(inputs, self.pads)
    batch, time, bins, channels = inputs.shape
    groups = self.geometry.num_groups
    inputs = inputs.reshape(
      batch, time // rows, rows, bins // columns, columns, groups, -1
    ).transpose(0, 1, 3, 5, 2, 4, 6)
    return inputs.reshape(
      batch, time // rows, bins // columns, rows * columns * channels
    )

  def unfold_inputs(
    self, folded: jax.Array, crops: list[tuple[int, int]]
  ) -> jax.Array:
    """The inverse of `fold_inputs`, less `crops` of each axis."""
    rows, columns = self.geometry.strides
    batch, time, bins, _ = folded.shape
    groups = self.geometry.num_groups
    inputs = folded.reshape(
      batch, time, bins, groups, rows, columns, -1
    ).transpose(0, 1, 4, 2, 5, 3, 6)
    inputs = inputs.reshape(batch, time * rows, bins * columns, -1)
    cuts = [(-before, -after, 0) for before, after in crops]
    return _pad(inputs, [(0, 0, 0), *cuts, (0, 0, 0)])

  def fold_kernel(self, kernel: jax.Array) -> jax.Array:
    """[time taps, bin taps, (strides, channels_in / groups), channels_out]."""
    rows, columns = self.geometry.strides
    down, across = self.taps
    _, _, channels, features = kernel.shape
    kernel = _pad(
      kernel,
      [
        (0, down * rows - kernel.shape[0], 0),
        (0, across * columns - kernel.shape[1], 0),
        (0, 0, 0),
        (0, 0, 0),
      ],
    )
    kernel = kernel.reshape(down, rows, across, columns, channels, features)
    return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(
      down, across, rows * columns * channels, features
    )

  def unfold_kernel(self, folded: jax.Array) -> jax.Array:
    """The inverse of `fold_kernel`."""
    rows, columns = self.geometry.strides
    down, across = self.taps
    *taps, channels, features = self.kernel_shape
    kernel = folded.reshape(down, across, rows, columns, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(
      down * rows, across * columns, channels, features
    )
    return kernel[: taps[0], : taps[1]]


def input_gradient(
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
  geometry: Geometry,
) -> jax.Array:
  """The cotangent convolved with the flipped kernel."""
  unit = _Unit.of(inputs.shape, kernel.shape, geometry)
  down, across = unit.taps
  groups = geometry.num_groups
  kernel = unit.fold_kernel(kernel)
  channels = kernel.shape[2]
  if groups == 1 and kernel.size > inputs.size and across == 1:
    folded = _spread(cotangent, kernel, dilation=geometry.dilation[0])
    return unit.unfold_inputs(folded, [pads[:2] for pads in unit.pads[1:3]])
  # In and out change places within each group.
  kernel = kernel.reshape(down, across, channels, groups, -1)
  kernel = kernel.transpose(0, 1, 4, 3, 2)
  kernel = kernel.reshape(down, across, -1, groups * channels)
  # Flipping and transposing at once is a slow loop.
  kernel = jnp.flip(jax.lax.optimization_barrier(kernel), (0, 1))
  paddings, crops = [], []
  for axis, (before, after, _) in enumerate(unit.pads[1:3]):
    reach = (unit.taps[axis] - 1) * geometry.dilation[axis]
    # What the padding would get is not computed, or cut off if blocks hold it.
    whole = geometry.strides[axis] > 1
    crops.append((before, after) if whole else (0, 0))
    paddings.append(
      (reach, reach) if whole else (reach - before, reach - after)
    )
  backward = Geometry(
    strides=(1, 1),
    padding=tuple(paddings),
    dilation=geometry.dilation,
    num_groups=groups,
  )
  plain = geometry.strides == geometry.dilation == (1, 1)
  if plain and across > 1 and channels < _FEW_CHANNELS:
    return _several_bins_at_once(cotangent, kernel, backward)
  return unit.unfold_inputs(_plain_convolve(cotangent, kernel, backward), crops)


def _several_bins_at_once(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """A convolution to few channels, as one to those of several bins.

  It multiplies by zeros, and is far faster: a product of two columns is not.
  """
  many = _BINS_AT_ONCE
  (top, bottom), (before, after) = geometry.padding
  bins = inputs.shape[2] + before + after - kernel.shape[1] + 1
  blocks = -(-bins // many)
  kernel = jnp.concatenate(
    [
      _pad(kernel, [(0, 0, 0), (bin_, many - 1 - bin_, 0), (0,) * 3, (0,) * 3])
      for bin_ in range(many)
    ],
    axis=-1,
  )
  outputs = xla_convolve(
    inputs,
    kernel,
    Geometry(
      strides=(1, many),
      padding=((top, bottom), (before, after + blocks * many - bins)),
    ),
  )
  batch, time = outputs.shape[:2]
  return outputs.reshape(batch, time, blocks * many, -1)[:, :, :bins]


def _spread(
  cotangent: jax.Array, kernel: jax.Array, *, dilation: int
) -> jax.Array:
  """As `input_gradient`, without moving a kernel that outweighs its inputs."""
  taps, _, channels, features = kernel.shape
  batch, time, bins, _ = cotangent.shape
  reach = (taps - 1) * dilation
  products = jnp.matmul(
    cotangent.reshape(-1, features), kernel.reshape(-1, features).T
  ).reshape(batch, time, bins, taps * channels)
  return sum(
    _pad(
      products[..., tap * channels : (tap + 1) * channels],
      [
        (0, 0, 0),
        (tap * dilation, reach - tap * dilation, 0),
        (0, 0, 0),
        (0, 0, 0),
      ],
    )
    for tap in range(taps)
  )


def kernel_gradient(
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
  geometry: Geometry,
) -> jax.Array:
  """One product of shifted inputs with shifted cotangents."""
  over_time = inputs.shape[2] == kernel.shape[1] == geometry.strides[0] == 1
  narrow = inputs.shape[-1] < _FEW_CHANNELS  # The product would be, too.
  if geometry.num_groups == 1 and (over_time or narrow):
    return xla_gradient(inputs, kernel, cotangent, geometry, wrt=1)
  unit = _Unit.of(inputs.shape, kernel.shape, geometry)
  groups = geometry.num_groups
  folded = _groups_first(unit.fold_inputs(inputs), groups)
  cotangent = _groups_first(cotangent, groups)
  channels, features = folded.shape[-1], cotangent.shape[-1]
  in_shifts, out_shifts = _split_taps(
    unit.taps, geometry.dilation, channels=channels, features=features
  )
  length = cotangent.shape[2] + out_shifts[-1]
  chunks = _num_chunks(cotangent.shape, length)
  length = -(-length // chunks) * chunks
  products = _chunked_product(
    _side_by_side(folded, in_shifts, length, cotangent.shape[3]),
    _delayed(cotangent, out_shifts, length),
    chunks=chunks,
  ).reshape(groups, len(in_shifts), channels, len(out_shifts), features)
  down, across = unit.taps
  if across > 1:
    # Inputs were shifted over bins, cotangents over time.
    products = products.transpose(3, 1, 2, 0, 4)
  else:
    products = products.transpose(3, 1, 2, 0, 4).reshape(
      -1, 1, channels, groups, features
    )[:down]
  return unit.unfold_kernel(
    products.reshape(down, across, channels, groups * features)
  )


def _split_taps(
  taps: tuple[int, int],
  dilation: tuple[int, int],
  *,
  channels: int,
  features: int,
) -> tuple[list[tuple[int, int]], list[int]]:
  """Shifts (time, bins) of the inputs and delays of the cotangents.

  Every tap is one shift plus one delay. Over time alone the split is free; the
  cheapest is taken, in which a few products may be of taps that do not exist.
  """
  down, across = taps
  if across > 1:
    shifts = [(0, shift * dilation[1]) for shift in range(across)]
    return shifts, [delay * dilation[0] for delay in range(down)]

  def cost(width: int) -> int:
    delays = -(-down // width)
    packing = width * channels + delays * features
    return width * delays * channels * features + _PACKING_COST * packing

  width = min(range(1, down + 1), key=cost)
  shifts = [(shift * dilation[0], 0) for shift in range(width)]
  return shifts, [delay * dilation[0] for delay in range(0, down, width)]


def _side_by_side(
  inputs: jax.Array, shifts: list[tuple[int, int]], length: int, bins: int
) -> jax.Array:
  """[groups, batch, length, bins, shifts * channels]."""
  channels = inputs.shape[-1]
  return sum(
    _pad(
      inputs,
      [
        (0, 0, 0),
        (0, 0, 0),
        (-time, length + time - inputs.shape[2], 0),
        (-bin_, bins + bin_ - inputs.shape[3], 0),
        (index * channels, (len(shifts) - 1 - index) * channels, 0),
      ],
    )
    for index, (time, bin_) in enumerate(shifts)
  )


def _delayed(cotangent: jax.Array, delays: list[int], length: int) -> jax.Array:
  """[groups, batch, length, bins, delays * features]."""
  features = cotangent.shape[-1]
  return sum(
    _pad(
      cotangent,
      [
        (0, 0, 0),
        (0, 0, 0),
        (delay, length - delay - cotangent.shape[2], 0),
        (0, 0, 0),
        (index * features, (len(delays) - 1 - index) * features, 0),
      ],
    )
    for index, delay in enumerate(delays)
  )


def _num_chunks(shape: tuple[int, ...], length: int) -> int:
  """Partial products of each example; 1 where the batch is one product."""
  _, batch, _, bins, _ = shape
  if batch * length * bins < 2 * _PRODUCT_ROWS:
    return 1
  return max(1, round(length * bins / _PRODUCT_ROWS))


def _chunked_product(
  left: jax.Array, right: jax.Array, *, chunks: int
) -> jax.Array:
  """Sum over batch, time and bins of left^T right, one a group."""
  groups, batch, length, bins, _ = left.shape
  if batch * length * bins < 2 * _PRODUCT_ROWS:
    batch = 1

  def rows(operand: jax.Array) -> jax.Array:
    return operand.reshape(groups, batch * chunks, -1, operand.shape[-1])

  products = jax.lax.dot_general(
    rows(left), rows(right), (((2,), (2,)), ((0, 1), (0, 1)))
  )
  return jnp.sum(products, axis=1)


def _groups_first(array: jax.Array, groups: int) -> jax.Array:
  """[groups, batch, time, bins, channels of a group]."""
  array = array.reshape(*array.shape[:-1], groups, -1)
  array = jnp.moveaxis(array, -2, 0)
  if groups == 1:
    return array
  # A product by 1. XLA would else fuse what makes the array into each of its
  # shifts, and do it as often; it drops barriers before it fuses.
  return jnp.matmul(array, jnp.eye(array.shape[-1], dtype=array.dtype))


def _pad(array: jax.Array, pads: list[tuple[int, int, int]]) -> jax.Array:
  return jax.lax.pad(array, jnp.zeros((), array.dtype), pads)
