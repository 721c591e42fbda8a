# SPDX-License-Identifier: Apache-2.0
"""A trainer of each kind, small but wide: products outweigh all else."""

from musiclm_jax.codec import (
  discriminators,
  objective,
  reconstruction,
  soundstream,
)
from musiclm_jax.planning import abstract
from musiclm_jax.planning.devices import Topology
from musiclm_jax.planning.plan import Run
from musiclm_jax.quantization import residual
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training import optimizers
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.stages import toys as stages


def stage_training(*, num_microbatches=1, **changes):
  sizes = {'embed_dim': 96, 'mlp_dim': 320, 'dropout_rate': 0.0}
  return Training(
    objective=StageObjective(model=stages.config(**(sizes | changes))),
    optimizer=optimizers.adamw(learning_rate=1e-3, clip_norm=1.0),
    num_microbatches=num_microbatches,
  )


def stage_run(topology='v5e:2x2', *, batch_size=8, mesh=None, **changes):
  return Run(
    training=stage_training(**changes),
    batch=abstract.with_rows(stages.batch(1), num_rows=batch_size),
    partitioner=Partitioner(**(mesh or {})),
    num_steps=1000,
    topology=Topology.parse(topology),
  )


def codec_training():
  listeners = (
    discriminators.WaveConfig(
      channels=16, max_channels=64, num_strides=1, num_resolutions=1
    ),
    discriminators.StftConfig(
      window_samples=64, hop_samples=16, channels=16, multipliers=(2,)
    ),
  )
  adam = optimizers.adam(learning_rate=1e-3)
  return AdversarialTraining(
    objective=objective.SoundStreamObjective(
      codec=soundstream.SoundStreamConfig(
        sample_rate_hz=8000,
        channels=32,
        strides=(16,),
        embed_dim=96,
        quantizer=residual.ResidualQuantizerConfig(
          num_levels=2, codebook_size=16
        ),
      ),
      discriminators=discriminators.DiscriminatorsConfig(members=listeners),
      losses=objective.LossConfig(
        mel_distance=reconstruction.MelDistanceConfig(
          windows=(64,), num_mels=16
        )
      ),
    ),
    generator_optimizer=adam,
    discriminator_optimizer=adam,
    ema_decay=0.9,
  )
