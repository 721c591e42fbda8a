# SPDX-License-Identifier: Apache-2.0
"""Small objectives with logical axes, and batches, for the trainer's tests.

The sizes are multiples of eight, so that every mesh of eight devices divides
them, and differ from each other.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax import axes, batches
from musiclm_jax.checkpoints.bundle import BundleContents
from musiclm_jax.layers.parameters import param
from musiclm_jax.metrics import (
  Evaluation,
  LossOutput,
  WeightedMean,
  accumulation_dtype,
)

BATCH = 16
SAMPLES = 24
HIDDEN = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """What a bundle of a toy states."""

  hidden: int = HIDDEN
  dtype: str = 'float32'


def contents(variables):
  return BundleContents(
    kind='toy', config=Config(), weights=variables, stream_out=None
  )


class Linear(nn.Module):
  """A product with a kernel of named axes."""

  features: int
  axes: tuple

  @nn.compact
  def __call__(self, inputs):
    kernel = param(
      self,
      'kernel',
      nn.initializers.lecun_normal(),
      (inputs.shape[-1], self.features),
      accumulation_dtype(inputs.dtype),
      axes=self.axes,
    )
    return inputs @ kernel


class Autoencoder(nn.Module):
  """Samples to a hidden layer and back, with a running mean as 'codebooks'."""

  noise: float = 0.0

  @nn.compact
  def __call__(self, waveform, key=None):
    hidden = Linear(HIDDEN, (axes.EMBED, axes.MLP), name='encoder')(waveform)
    hidden = nn.with_logical_constraint(hidden, (axes.BATCH, axes.MLP))
    if key is not None and self.noise:
      draw = jax.random.normal(key, hidden.shape, hidden.dtype)
      hidden = hidden + self.noise * draw
    mean = self.variable(
      'codebooks',
      'mean',
      nn.with_logical_partitioning(jnp.zeros, (axes.MLP,)),
      (HIDDEN,),
      hidden.dtype,
    )
    count = self.variable('codebooks', 'count', jnp.zeros, (), jnp.int32)
    if self.is_mutable_collection('codebooks') and not self.is_initializing():
      mean.value = 0.9 * mean.value + 0.1 * jnp.mean(hidden, axis=0)
      count.value = count.value + 1
    hidden = jnp.tanh(hidden - mean.value[None])
    return Linear(waveform.shape[-1], (axes.MLP, axes.EMBED), name='decoder')(
      hidden
    )


class Discriminator(nn.Module):
  """One hidden layer, whose features are returned with the logits."""

  @nn.compact
  def __call__(self, waveform):
    features = jnp.tanh(
      Linear(HIDDEN, (axes.EMBED, axes.MLP), name='hidden')(waveform)
    )
    return features, Linear(1, (axes.MLP, None), name='logit')(features)


class Regression:
  """Plain: masked squared error of a linear map onto itself."""

  batch_is_coupled = False

  def __init__(self):
    self.module = Linear(SAMPLES, (axes.EMBED, axes.MLP))

  def init(self, key, batch):
    return self.module.init(key, batch[batches.WAVEFORM])

  def loss(self, variables, batch, key):
    waveform = batch[batches.WAVEFORM]
    error = (self.module.apply(variables, waveform) - 2 * waveform) ** 2
    loss = WeightedMean.of(error, batch[batches.SAMPLE_MASK])
    return LossOutput(loss=loss, metrics={'toy/error': loss})

  def evaluate(self, variables, batch, key):
    return Evaluation(metrics=self.loss(variables, batch, key).metrics)

  def bundle(self, variables):
    return contents(variables)


class Reconstruction(Regression):
  """Plain, with statistics and noise: squared error of the autoencoder."""

  batch_is_coupled = True

  def __init__(self, noise=0.0):
    self.module = Autoencoder(noise=noise)

  def loss(self, variables, batch, key):
    waveform = batch[batches.WAVEFORM]
    output, updates = self.module.apply(
      variables, waveform, key, mutable=['codebooks']
    )
    loss = WeightedMean.of((output - waveform) ** 2, batch[batches.SAMPLE_MASK])
    return LossOutput(loss=loss, metrics={'toy/error': loss}, updates=updates)

  def evaluate(self, variables, batch, key):
    waveform = batch[batches.WAVEFORM]
    output = self.module.apply(variables, waveform)
    error = WeightedMean.of(
      (output - waveform) ** 2, batch[batches.SAMPLE_MASK]
    )
    return Evaluation(
      metrics={'toy/error': error},
      waveforms={'original': waveform, 'reconstruction': output},
    )


@flax.struct.dataclass
class Generated:
  waveform: jax.Array
  losses: dict
  metrics: dict
  updates: dict


class Game:
  """Adversarial: the autoencoder against the discriminator, by hinges."""

  def __init__(self, noise=0.0):
    self.generator = Autoencoder(noise=noise)
    self.discriminator = Discriminator()

  def init(self, key, batch):
    waveform = batch[batches.WAVEFORM]
    return {
      'generator': self.generator.init(key, waveform),
      'discriminator': self.discriminator.init(key, waveform),
    }

  def generate(self, generator_variables, batch, key):
    waveform = batch[batches.WAVEFORM]
    fake, updates = self.generator.apply(
      generator_variables, waveform, key, mutable=['codebooks']
    )
    error = WeightedMean.of((fake - waveform) ** 2)
    return Generated(
      waveform=fake,
      losses={'error': error},
      metrics={'toy/error': error},
      updates=updates,
    )

  def judge(self, discriminator_params, batch, fake_waveform):
    def judge_one(waveform):
      variables = {'params': discriminator_params}
      return self.discriminator.apply(variables, waveform)

    return {
      'real': judge_one(batch[batches.WAVEFORM]),
      'fake': judge_one(fake_waveform),
    }

  def generator_loss(self, generated, judged, step):
    (real_features, _), (features, logits) = judged['real'], judged['fake']
    adversarial = WeightedMean.of(jax.nn.relu(1 - logits))
    distance = WeightedMean.of(jnp.abs(real_features - features))
    terms = (adversarial, distance, generated.losses['error'])
    total = sum(term.mean for term in terms)
    return LossOutput(
      loss=WeightedMean.of(total), metrics={'toy/adversarial': adversarial}
    )

  def discriminator_loss(self, judged, step):
    (_, real), (_, fake) = judged['real'], judged['fake']
    hinges = jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
    return LossOutput(loss=WeightedMean.of(hinges))

  def evaluate(self, generator_variables, batch, key):
    waveform = batch[batches.WAVEFORM]
    fake = self.generator.apply(generator_variables, waveform)
    error = WeightedMean.of((fake - waveform) ** 2)
    return Evaluation(
      metrics={'toy/error': error},
      waveforms={'original': waveform, 'reconstruction': fake},
    )

  def bundle(self, generator_variables):
    return contents(generator_variables)


class Noise:
  """A `BatchSource` of noise, a pure function of (seed, position)."""

  def __init__(self, *, batch_size=BATCH, samples=SAMPLES, seed=0, dtype=None):
    self.batch_size = batch_size
    self.samples = samples
    self.seed = seed
    self.dtype = dtype or np.float32

  def batch(self, position):
    draws = np.random.default_rng((self.seed, position))
    shape = (self.batch_size, self.samples)
    mask = np.ones(shape, bool)
    mask[:, self.samples // 2 :] = draws.random((self.batch_size, 1)) < 0.7
    waveform = draws.uniform(-1, 1, shape).astype(self.dtype)
    return {batches.WAVEFORM: waveform, batches.SAMPLE_MASK: mask}

  def batches(self, start, *, process_index=0, process_count=1):
    rows = self.batch_size // process_count
    mine = slice(process_index * rows, (process_index + 1) * rows)
    while True:
      yield {name: array[mine] for name, array in self.batch(start).items()}
      start += 1


def skip(state):
  """`state` after a step that was not finite: only its counters have moved."""
  return state.replace(
    step=state.step + 1,
    num_skipped=state.num_skipped + 1,
    num_skipped_in_a_row=state.num_skipped_in_a_row + 1,
  )
