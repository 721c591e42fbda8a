# SPDX-License-Identifier: Apache-2.0
"""What a chip can do, and how chips are joined; no chip is asked.

TPU figures: Google Cloud's pages "TPU v5e", "TPU v5p" and "TPU v6e". GPU
figures: NVIDIA's data sheets of the H100 SXM and the A100 80 GB SXM, dense, with
one InfiniBand port a GPU (400 and 200 Gb/s) between hosts. Rates are those of
the sheet: what a program reaches is below them.
"""

from __future__ import annotations

import dataclasses
import math
import re

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One accelerator.

  Attributes:
    flops_per_second: Of bfloat16 products.
    float32_share: Of that rate for float32 products, at JAX's default
      precision: TPUs multiply in bfloat16, GPUs in TF32.
    memory_bytes: That a program may use.
    bytes_per_second: Of its memory.
    tile: Side of its matrix unit; a narrower product fills a part of it.
    link_bytes_per_second: What it sends to its neighbours in both directions of
      one axis of the torus, or by NVLink.
    torus_axes: Of a TPU's network; 0 where a switch joins a host's chips.
    full_ring: A side of the torus closes to a ring at multiples of it.
    chips_per_host: Joined by the links.
    host_bytes_per_second: What a chip sends to other hosts; None if the torus
      spans hosts.
    names: What JAX calls it where it is.
  """

  flops_per_second: float
  float32_share: float
  memory_bytes: float
  bytes_per_second: float
  tile: int
  link_bytes_per_second: float
  torus_axes: int
  full_ring: int
  chips_per_host: int
  host_bytes_per_second: float | None = None
  names: tuple[str, ...]


CHIPS = {
  'v5e': Chip(
    flops_per_second=197e12,
    float32_share=1.0,
    memory_bytes=15.75 * _GIB,  # As its compiler says.
    bytes_per_second=819e9,
    tile=128,
    link_bytes_per_second=100e9,
    torus_axes=2,
    full_ring=16,
    chips_per_host=8,
    names=('TPU v5 lite', 'TPU v5e'),
  ),
  'v5p': Chip(
    flops_per_second=459e12,
    float32_share=1.0,
    memory_bytes=95.0 * _GIB,
    bytes_per_second=2765e9,
    tile=128,
    link_bytes_per_second=200e9,
    torus_axes=3,
    full_ring=4,
    chips_per_host=4,
    names=('TPU v5', 'TPU v5p'),
  ),
  'v6e': Chip(
    flops_per_second=918e12,
    float32_share=1.0,
    memory_bytes=31.25 * _GIB,
    bytes_per_second=1638e9,
    tile=256,
    link_bytes_per_second=200e9,
    torus_axes=2,
    full_ring=16,
    chips_per_host=8,
    names=('TPU v6 lite', 'TPU v6e'),
  ),
  'h100': Chip(
    flops_per_second=989e12,
    float32_share=0.5,
    memory_bytes=80e9,
    bytes_per_second=3350e9,
    tile=64,
    link_bytes_per_second=450e9,
    torus_axes=0,
    full_ring=8,
    chips_per_host=8,
    host_bytes_per_second=50e9,
    names=('NVIDIA H100 80GB HBM3',),
  ),
  'a100': Chip(
    flops_per_second=312e12,
    float32_share=0.5,
    memory_bytes=80e9,
    bytes_per_second=2039e9,
    tile=64,
    link_bytes_per_second=300e9,
    torus_axes=0,
    full_ring=8,
    chips_per_host=8,
    host_bytes_per_second=25e9,
    names=('NVIDIA A100-SXM4-80GB',),
  ),
}


def chip_named(device_kind: str) -> Chip | None:
  """The chip that JAX calls so; a CPU is none of them."""
  named = [chip for chip in CHIPS.values() if device_kind in chip.names]
  return named[0] if named else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """Chips of one kind and how they stand.

  Attributes:
    kind: A name of `CHIPS`.
    shape: Of the torus; hosts × chips of a host for GPUs.
  """

  kind: str
  shape: tuple[int, ...]

  @classmethod
  def parse(cls, name: str) -> Topology:
    """From 'v5e:16x16', 'v5p:4x4x4', 'h100:8' or 'h100:4x8'."""
    match = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', name)
    kind = match and match[1].lower()
    if kind not in CHIPS:
      raise ValueError(
        f'A topology is KIND:SHAPE with a kind of {sorted(CHIPS)}, such as'
        f' v5e:16x16, v5p:4x4x4 or h100:4x8 (hosts × GPUs); not {name!r}.'
      )
    shape = tuple(int(side) for side in match[2].split('x'))
    wanted = CHIPS[kind].torus_axes
    if min(shape) < 1 or (wanted and len(shape) != wanted):
      raise ValueError(
        f'{name!r} has {len(shape)} sides; a topology of {kind} has'
        f' {wanted or "1 or more"}, each at least 1.'
      )
    return cls(kind=kind, shape=shape)

  @property
  def name(self) -> str:
    return f'{self.kind}:{"x".join(map(str, self.shape))}'

  @property
  def chip(self) -> Chip:
    return CHIPS[self.kind]

  @property
  def num_chips(self) -> int:
    return math.prod(self.shape)

  def send_bytes_per_second(self, *, axis_size: int, stride: int) -> float:
    """What a chip sends along a mesh axis, in a ring.

    Args:
      axis_size: Devices of the mesh axis.
      stride: Devices of the axes inside it: whether it stays within a host.
    """
    chip = self.chip
    if not chip.torus_axes:
      within = axis_size * stride <= chip.chips_per_host
      return (
        chip.link_bytes_per_second if within else chip.host_bytes_per_second
      )
    side = max(self.shape)
    spanned = max(1, round(math.log(axis_size, side))) if side > 1 else 1
    # Without the link that closes the ring, half of it is of use.
    closed = axis_size >= side and side % chip.full_ring == 0
    return chip.link_bytes_per_second * spanned * (1 if closed else 0.5)
