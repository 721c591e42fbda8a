# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from musiclm_jax.planning import communication
from musiclm_jax.planning.devices import Topology
from musiclm_jax.training.partitioning import MESH_AXES

LEAF = jax.ShapeDtypeStruct((8, 3), np.float32)  # 96 bytes.


def sent(shape, spec, **changes):
  sharding = NamedSharding(AbstractMesh(shape, MESH_AXES), PartitionSpec(*spec))
  options = {'num_microbatches': 1, 'summed_bytes': 0.0} | changes
  return communication.sent_bytes([LEAF], [sharding], **options)


def test_data_sums_gradients_in_a_ring():
  assert sent((4, 1, 1), ()) == {
    'data': 2 * 3 / 4 * 96,
    'fsdp': 0.0,
    'tensor': 0.0,
  }


def test_fsdp_gathers_twice_and_scatters_once_in_every_microbatch():
  found = sent((2, 4, 1), ('fsdp',), num_microbatches=5)
  assert found['fsdp'] == 5 * 3 * 3 / 4 * 96
  assert found['data'] == 2 * 1 / 2 * 96 / 4  # Its shard alone.


def test_what_fsdp_does_not_split_is_summed_over_it():
  assert sent((1, 4, 1), ())['fsdp'] == 2 * 3 / 4 * 96


def test_tensor_sums_what_products_leave_apart():
  assert sent((1, 1, 2), (None,), summed_bytes=50.0)['tensor'] == 50


def test_axes_take_their_time_one_after_another():
  amounts = {'data': 450e9, 'fsdp': 900e9, 'tensor': 1.0}
  mesh = {'data': 2, 'fsdp': 8, 'tensor': 1}
  seconds = communication.seconds(
    amounts, mesh=mesh, topology=Topology.parse('h100:2x8')
  )
  # The two hosts are joined by 50 GB/s a GPU.
  assert seconds == pytest.approx(2 + 9)
