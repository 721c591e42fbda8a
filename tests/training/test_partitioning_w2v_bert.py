# SPDX-License-Identifier: Apache-2.0
"""w2v-BERT is trained alike on any mesh: losses, codes and statistics."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.semantic.masking import MaskingConfig
from musiclm_jax.semantic.objective import LossConfig, W2vBertObjective
from musiclm_jax.training import optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.semantic import toys

MESHES = {
  'data8': Partitioner(data=8),
  'fsdp8': Partitioner(data=1, fsdp=8),
  'mesh222': Partitioner(data=2, fsdp=2, tensor=2),
}
ONE_DEVICE = Partitioner(data=1)
BATCH = 8
NUM_STEPS = 10


def make_training(dtype):
  model = toys.config(
    embed_dim=24,
    mlp_dim=40,
    position='relative',
    num_buckets=8,
    dropout_rate=0.1,
    dtype=dtype,
    param_dtype=dtype,
  )
  quantizer = dataclasses.replace(
    model.quantizer, codebook_size=16, code_dim=32
  )
  return Training(
    objective=W2vBertObjective(
      model=toys.scanned(dataclasses.replace(model, quantizer=quantizer)),
      masking=MaskingConfig(start_rate=0.1, span_frames=4),
      losses=LossConfig(num_distractors=7),
    ),
    optimizer=optimizers.slowed(
      optimizers.adam(learning_rate=1e-3, clip_norm=1.0),
      parts=('quantizer',),
      factor=0.5,
    ),
    ema_decay=0.9,
  )


def clips(position, dtype):
  """Notes; some clips end early."""
  batch = toys.batch(
    num_rows=BATCH, num_samples=24 * toys.HOP, seed=position, dtype=dtype
  )
  draws = np.random.default_rng((7, position))
  lengths = draws.integers(10 * toys.HOP, 40 * toys.HOP, (BATCH, 1))
  mask = np.arange(24 * toys.HOP) < lengths
  return batch | {batches.SAMPLE_MASK: mask}


def train(partitioner, dtype):
  """Losses, the last state, and figures that it gives."""
  training = make_training(dtype)

  def batch(position):
    return partitioner.place_batch(clips(position, dtype), batch_size=BATCH)

  state = partitioner.first_state(training, seed=3, batch=batch(0))
  step = partitioner.partition_step(training, state)
  losses = []
  for position in range(NUM_STEPS):
    state, metrics = step(state, batch(position))
    losses.append(
      [
        float(metrics[name].mean)
        for name in ('loss', 'w2v_bert/contrastive', 'w2v_bert/mlm')
      ]
    )
  evaluate = partitioner.partition_evaluation(training, num_waveforms=0)
  counts = evaluate(state, batch(99)).histograms['w2v_bert/codes'].counts
  return np.asarray(losses), jax.device_get(state), np.asarray(counts)


@functools.cache
def alone(dtype):
  return train(ONE_DEVICE, dtype)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_it_is_the_same_on_any_mesh_in_float64(mesh):
  with jax.enable_x64():
    wanted, wanted_state, wanted_counts = alone('float64')
    got, state, counts = train(MESHES[mesh], 'float64')
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
  assert (wanted[-1] != wanted[0]).all()
  np.testing.assert_array_equal(counts, wanted_counts)
  assert np.count_nonzero(wanted_counts) > 4
  assert state.collections['schedule']['quantizer']['num_steps'] == NUM_STEPS
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9),
    state.params,
    wanted_state.params,
  )


@pytest.mark.slow
def test_it_is_the_same_on_any_mesh_in_float32():
  wanted, _, _ = alone('float32')
  got, _, _ = train(MESHES['mesh222'], 'float32')
  np.testing.assert_allclose(got, wanted, rtol=1e-4)
