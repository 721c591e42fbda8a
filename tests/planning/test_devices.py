# SPDX-License-Identifier: Apache-2.0
import pytest

from musiclm_jax.planning.devices import CHIPS, Topology, chip_named


def test_a_name_is_a_kind_and_a_shape():
  cube = Topology.parse('v5p:4x4x4')
  assert (cube.num_chips, cube.name) == (64, 'v5p:4x4x4')
  assert cube.chip.flops_per_second == 459e12
  assert Topology.parse('H100:4x8').num_chips == 32


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v9:4x4', r'a kind of .*v5e.* not .v9:4x4'),
    ('v5e-16', 'A topology is KIND:SHAPE'),
    ('v5p:4x4', 'has 2 sides; a topology of v5p has 3'),
    ('v5e:0x4', 'each at least 1'),
  ],
)
def test_what_is_no_topology_is_refused(name, message):
  with pytest.raises(ValueError, match=message):
    Topology.parse(name)


def test_a_ring_that_does_not_close_sends_half():
  pod, corner = Topology.parse('v5e:16x16'), Topology.parse('v5e:4x4')
  assert pod.send_bytes_per_second(axis_size=16, stride=1) == 100e9
  assert corner.send_bytes_per_second(axis_size=4, stride=1) == 50e9
  # A part of a side.
  assert pod.send_bytes_per_second(axis_size=8, stride=1) == 50e9
  # Both sides of the torus: 4 × 4 close as little as 4 do.
  assert pod.send_bytes_per_second(axis_size=256, stride=1) == 200e9
  assert corner.send_bytes_per_second(axis_size=16, stride=1) == 100e9


def test_gpus_of_other_hosts_are_further_away():
  hosts = Topology.parse('h100:4x8')
  assert hosts.send_bytes_per_second(axis_size=8, stride=1) == 450e9
  assert hosts.send_bytes_per_second(axis_size=4, stride=8) == 50e9


def test_no_two_chips_go_by_one_name():
  names = [name for chip in CHIPS.values() for name in chip.names]
  assert len(names) == len(set(names)) >= len(CHIPS)
  assert chip_named('NVIDIA H100 80GB HBM3') is CHIPS['h100']
  # Not the slower card of the same generation.
  assert chip_named('NVIDIA H100 PCIe') is None
