# SPDX-License-Identifier: Apache-2.0
"""MuLan trains the same on any mesh, in memory that grows with its pairs."""

import functools

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.mulan import objective
from musiclm_jax.training import optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.mulan import toys

ONE_DEVICE = Partitioner(data=1)
MESHES = {
  'data8': Partitioner(data=8),
  'mesh222': Partitioner(data=2, fsdp=2, tensor=2),
}
ROWS = 16


def training():
  return Training(
    objective=objective.MulanObjective(
      model=toys.config(dtype='float64'), tower_rows=8, block_rows=8
    ),
    optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
  )


def losses(partitioner, *, num_steps=10):
  made = training()

  def placed(position):
    batch = toys.batch(ROWS, seed=position, missing=(3,), dtype=np.float64)
    return partitioner.place_batch(batch, batch_size=ROWS)

  state = partitioner.first_state(made, seed=3, batch=placed(0))
  step = partitioner.partition_step(made, state)
  found = []
  for position in range(num_steps):
    state, metrics = step(state, placed(position))
    found.append(float(metrics['loss'].mean))
  return found


@functools.cache
def alone():
  return losses(ONE_DEVICE)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_losses_are_the_same_on_any_mesh_in_float64(mesh):
  with jax.enable_x64():
    wanted = alone()
    got = losses(MESHES[mesh])
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
  assert wanted[-1] != wanted[0]


def gradient_bytes(partitioner, pairs, *, rows):
  """What a device holds at most beside arguments and results.

  By XLA's own account of the compiled gradient, of `pairs` a device; `rows` of
  them at a time in the towers and in the logits. Nothing runs.
  """
  num_devices = partitioner.mesh.size
  num_rows = pairs * num_devices
  at_a_time = None if rows is None else rows * num_devices
  trained = objective.MulanObjective(
    model=toys.config(), tower_rows=at_a_time, block_rows=at_a_time
  )
  sharding = partitioner.batch_sharding(num_rows)
  batch = {
    name: jax.ShapeDtypeStruct(
      (num_rows, *array.shape[1:]), array.dtype, sharding=sharding
    )
    for name, array in toys.batch(2).items()
  }
  params = meta.unbox(jax.eval_shape(trained.model.init, jax.random.key(0)))

  def loss(params, batch):
    return trained.loss(params, batch, jax.random.key(1)).loss.mean

  with partitioner.entered():
    compiled = jax.jit(jax.grad(loss)).lower(params, batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize('partitioner', [ONE_DEVICE, MESHES['data8']])
def test_memory_of_the_gradient_grows_with_the_pairs_and_not_their_square(
  partitioner,
):
  held = [
    gradient_bytes(partitioner, pairs, rows=128) for pairs in (1024, 2048, 4096)
  ]
  print('held', [size / 2**20 for size in held])
  first, second = held[1] - held[0], held[2] - held[1]
  # In a straight line the second step is of twice as many pairs; squares would
  # make it four times the first.
  assert second < 2.3 * first
  assert held[2] < 4.2 * held[0]


@pytest.mark.slow
def test_memory_of_the_dense_form_does_grow_with_the_square():
  held = [
    gradient_bytes(ONE_DEVICE, pairs, rows=None) for pairs in (1024, 2048, 4096)
  ]
  print('dense', [size / 2**20 for size in held])
  in_parts = gradient_bytes(ONE_DEVICE, 4096, rows=128)
  assert held[2] - held[1] > 2.5 * (held[1] - held[0])
  assert held[2] > 3 * in_parts
