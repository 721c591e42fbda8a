# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from musiclm_jax.planning import abstract
from musiclm_jax.training.partitioning import Partitioner
from tests.planning import toys


class Rows:
  """Batches of 7 rows that say how many rows were read."""

  batch_size = 7

  def batches(self, start, *, process_index=0, process_count=1):
    assert self.batch_size % process_count == 0
    rows = self.batch_size // process_count
    yield {'waveform': np.zeros((rows, 5), np.float32), 'read': [rows]}


def test_the_form_of_a_batch_takes_one_row_to_read():
  source = Rows()
  batches = source.batches
  read = []

  def counted(*args, **kwargs):
    batch = next(batches(*args, **kwargs))
    read.extend(batch.pop('read'))
    yield batch

  source.batches = counted
  (form,) = abstract.batch_form(source).values()
  assert (form.shape, form.dtype, read) == ((7, 5), np.float32, [1])


def test_rematerialization_is_set_however_deep():
  training = toys.stage_training()
  assert not abstract.has_remat(training)
  with_remat = abstract.with_remat(training, remat=True)
  assert with_remat.objective.model.transformer.remat
  assert abstract.has_remat(with_remat)
  assert abstract.with_remat(with_remat, remat=False) == training


def test_a_mesh_is_of_devices_that_are_not_here():
  planned = abstract.on_devices(Partitioner(fsdp=64), num_devices=256)
  assert dict(planned.mesh.shape) == {'data': 4, 'fsdp': 64, 'tensor': 1}
  assert planned.batch_sharding(512).shard_shape((512, 3)) == (2, 3)
  with pytest.raises(ValueError, match='fsdp 64 .* does not make up 16 dev'):
    abstract.on_devices(Partitioner(fsdp=64), num_devices=16)


def test_local_bytes_are_those_of_one_shard():
  mesh = abstract.on_devices(Partitioner(fsdp=4), num_devices=8).mesh
  leaf = jax.ShapeDtypeStruct((8, 3), np.float32)
  whole = NamedSharding(mesh, PartitionSpec())
  split = NamedSharding(mesh, PartitionSpec('fsdp'))
  assert abstract.local_bytes([leaf, leaf], [whole, split]) == 96 + 24
  assert abstract.num_bytes([leaf, leaf]) == 2 * 96
