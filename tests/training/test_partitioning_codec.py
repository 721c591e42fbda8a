# SPDX-License-Identifier: Apache-2.0
"""The real codec is trained alike on any mesh: losses, codes and codebooks."""

import functools

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.codec import (
  discriminators,
  objective,
  reconstruction,
  soundstream,
)
from musiclm_jax.quantization import residual
from musiclm_jax.training import optimizers
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.partitioning import Partitioner

MESHES = {
  'data8': Partitioner(data=8),
  'fsdp8': Partitioner(data=1, fsdp=8),
  'mesh222': Partitioner(data=2, fsdp=2, tensor=2),
}
ONE_DEVICE = Partitioner(data=1)
BATCH = 8
SAMPLES = 1024
NUM_STEPS = 10


def make_training(dtype):
  codec = soundstream.SoundStreamConfig(
    sample_rate_hz=8000,
    channels=8,
    strides=(16,),
    embed_dim=24,
    quantizer=residual.ResidualQuantizerConfig(num_levels=3, codebook_size=16),
    dtype=dtype,
    param_dtype=dtype,
  )
  listeners = discriminators.DiscriminatorsConfig(
    members=(
      discriminators.WaveConfig(
        channels=8, max_channels=32, num_strides=1, num_resolutions=1
      ),
      discriminators.StftConfig(
        window_samples=64, hop_samples=16, channels=8, multipliers=(2,)
      ),
    ),
    dtype=dtype,
    param_dtype=dtype,
  )
  losses = objective.LossConfig(
    mel_distance=reconstruction.MelDistanceConfig(windows=(64,), num_mels=16)
  )
  adam = functools.partial(
    optimizers.adam, learning_rate=1e-3, betas=(0.5, 0.9)
  )
  return AdversarialTraining(
    objective=objective.SoundStreamObjective(
      codec=codec, discriminators=listeners, losses=losses
    ),
    generator_optimizer=adam(),
    discriminator_optimizer=adam(),
    ema_decay=0.9,
  )


def tones(position, dtype):
  """Two tones and a little noise a row; some rows end early."""
  draws = np.random.default_rng((7, position))
  time = np.arange(SAMPLES) / 8000
  pitches = draws.uniform(100, 2000, (BATCH, 2, 1))
  waveform = 0.3 * np.sin(2 * np.pi * pitches * time).sum(axis=1)
  waveform += 0.01 * draws.normal(size=waveform.shape)
  mask = np.arange(SAMPLES) < draws.integers(500, 2 * SAMPLES, (BATCH, 1))
  return {
    batches.WAVEFORM: (waveform * mask).astype(dtype),
    batches.SAMPLE_MASK: mask,
  }


def train(partitioner, dtype):
  """Losses of both players, the last state, and the codes it gives."""
  training = make_training(dtype)

  def batch(position):
    return partitioner.place_batch(tones(position, dtype), batch_size=BATCH)

  state = partitioner.first_state(training, seed=3, batch=batch(0))
  step = partitioner.partition_step(training, state)
  losses = []
  for position in range(NUM_STEPS):
    state, metrics = step(state, batch(position))
    losses.append(
      [float(metrics[name].mean) for name in ('loss', 'discriminator/loss')]
    )
  with partitioner.entered():
    codec = soundstream.SoundStream(training.objective.codec)
    codes = jax.jit(functools.partial(codec.apply, method='encode'))(
      training.published_variables(state), batch(99)[batches.WAVEFORM]
    )
  return np.asarray(losses), jax.device_get(state), np.asarray(codes)


@functools.cache
def alone(dtype):
  return train(ONE_DEVICE, dtype)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_codec_is_the_same_on_any_mesh_in_float64(mesh):
  with jax.enable_x64():
    wanted, wanted_state, wanted_codes = alone('float64')
    got, state, codes = train(MESHES[mesh], 'float64')
  np.testing.assert_allclose(got, wanted, rtol=1e-9)
  assert (wanted[-1] != wanted[0]).all()
  np.testing.assert_array_equal(codes, wanted_codes)
  assert len(np.unique(wanted_codes)) > 8
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-10),
    state.collections,
    wanted_state.collections,
  )
  assert wanted_state.collections['generator']['codebooks']


@pytest.mark.slow
@pytest.mark.parametrize('mesh', MESHES)
def test_codec_is_the_same_on_any_mesh_in_float32(mesh):
  wanted, _, _ = alone('float32')
  got, _, _ = train(MESHES[mesh], 'float32')
  np.testing.assert_allclose(got, wanted, rtol=1e-4)
