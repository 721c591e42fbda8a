# SPDX-License-Identifier: Apache-2.0
"""A stage trains the same on any mesh, and its activations are laid over it."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training import optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.stages import toys

MESHES = {
  'data8': Partitioner(data=8),
  'mesh222': Partitioner(data=2, fsdp=2, tensor=2),
}
CONFIG = toys.config(
  embed_dim=24,
  mlp_dim=40,
  scan_layers=True,
  remat=True,
  dtype='float64',
  param_dtype='float64',
)
ROWS = 16


def training(**changes):
  body = dataclasses.replace(CONFIG.transformer, **changes)
  return Training(
    objective=StageObjective(
      model=dataclasses.replace(CONFIG, transformer=body),
      dropped_streams=('clip',),
      drop_rate=0.3,
    ),
    optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
  )


def losses(partitioner, *, num_steps=5):
  made = training()
  first = partitioner.place_batch(toys.batch(ROWS), batch_size=ROWS)
  state = partitioner.first_state(made, seed=3, batch=first)
  step = partitioner.partition_step(made, state)
  found = []
  for position in range(num_steps):
    batch = toys.batch(ROWS, seed=position)
    state, metrics = step(
      state, partitioner.place_batch(batch, batch_size=ROWS)
    )
    found.append(float(metrics['loss'].mean))
  return found


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_losses_are_the_same_on_any_mesh_in_float64(mesh):
  with jax.enable_x64():
    wanted = losses(Partitioner(data=1))
    got = losses(MESHES[mesh])
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
  assert wanted[-1] != wanted[0]


def test_activations_and_parameters_are_laid_over_the_mesh():
  partitioner = MESHES['mesh222']
  made = training(
    dtype='float32', param_dtype='float32', scan_layers=False, remat=False
  )
  batch = partitioner.place_batch(toys.batch(ROWS), batch_size=ROWS)
  state = partitioner.abstract_state(made, seed=0, batch=batch)
  layer = state.params['transformer']['layer_1']
  assert layer['attention']['query_key_value'][
    'kernel'
  ].sharding.spec == PartitionSpec(None, 'tensor', None, 'fsdp')
  assert layer['feedforward']['narrow'][
    'kernel'
  ].sharding.spec == PartitionSpec('fsdp', 'tensor')
  lowered = partitioner.partition_step(made, state).lower(state, batch)
  num_constraints = lowered.as_text().count('sdy.sharding_constraint')
  # Forward and backward: the embeddings, and in each of two layers the
  # projections, the wide layer and the stream.
  assert num_constraints == 2 * (1 + 2 * 3)
