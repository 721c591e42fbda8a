# SPDX-License-Identifier: Apache-2.0
"""A codebook whose choice is learned: Gumbel-softmax, straight through.

Baevski et al., "wav2vec 2.0" (2020), section 2, equations 1 and 4, with one
codebook as in w2v-BERT (Chung et al., 2021), section 3.1. Forward a frame takes
one code; backward the gradient is that of the softmax. The temperature falls
from step to step, so the steps are counted in the collection `SCHEDULE`, which
moves on where it is mutable.

Ours: the code of a frame, which the masked prediction is about, is the most
likely one and has no noise in it: a target without noise can be predicted.

Shapes: latents are [batch, frames, embed], codes [batch, frames].
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Latents, PRNGKey
from musiclm_jax.layers import dense, parameters

SCHEDULE = 'schedule'  # collection that counts the training steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class GumbelQuantizerConfig:
  """Sizes of the codebook and how its choice sharpens.

  Attributes:
    codebook_size: Codes.
    code_dim: Width of a code's vector.
    first_temperature: Of the softmax at the first step.
    last_temperature: Below which it does not fall.
    temperature_decay: Factor from one step to the next.
    first_deviation: Of the logits at the start.
  """

  codebook_size: int
  code_dim: int
  first_temperature: float = 2.0
  last_temperature: float = 0.5
  temperature_decay: float = 0.999995
  first_deviation: float = 4.0

  def __post_init__(self):
    if self.codebook_size < 2:
      raise ValueError(
        f'A codebook has at least 2 codes, not {self.codebook_size}.'
      )
    if not 0 < self.last_temperature <= self.first_temperature:
      raise ValueError(
        f'The temperature falls from {self.first_temperature} to'
        f' {self.last_temperature}; wanted is first >= last > 0.'
      )
    if not 0 < self.temperature_decay <= 1:
      raise ValueError(
        f'temperature_decay is {self.temperature_decay}, not within (0, 1].'
      )


@flax.struct.dataclass
class Quantized:
  """What the quantizer makes of frames.

  Attributes:
    vectors: Of the code that each frame drew.
    drawn: That code.
    codes: The most likely code of each frame.
    probabilities: Of each code, without noise, at least float32.
    temperature: Of the draw.
  """

  vectors: Float[Array, 'batch frames code']
  drawn: Int[Array, 'batch frames']
  codes: Int[Array, 'batch frames']
  probabilities: Float[Array, 'batch frames codebook']
  temperature: Float[Array, '']


class GumbelQuantizer(nn.Module):
  """Logits over the codes of one codebook, and its vectors.

  Attributes:
    config: Sizes.
    param_dtype: Stored type; computed in float32 or better.
  """

  config: GumbelQuantizerConfig
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, latents: Latents, *, key: PRNGKey | None = None
  ) -> Quantized:
    """Chooses a code for each frame.

    Args:
      latents: Normed frames.
      key: Draws the codes; the most likely ones are taken if left out.
    """
    config = self.config
    # Float32: in bfloat16 the logits of many codes tie.
    dtype = metrics.accumulation_dtype(latents.dtype)
    logits = dense.DenseGeneral(
      features=(config.codebook_size,),
      axes=(axes.CODEBOOK, axes.EMBED),
      # Ours, weights of variance 1: frames are told apart from the first step,
      # as by a random projection, and not by the noise alone.
      kernel_scale=config.first_deviation**2,
      use_bias=True,
      name='logits',
      dtype=dtype,
      param_dtype=self.param_dtype,
    )(latents)
    codebook = parameters.param(
      self,
      'codebook',
      nn.initializers.normal(1.0),
      (config.codebook_size, config.code_dim),
      self.param_dtype,
      axes=(axes.CODEBOOK, axes.EMBED),
    )
    temperature = self._temperature(dtype)
    choice = one_hot_choice(logits, temperature=temperature, key=key)
    return Quantized(
      vectors=choice @ codebook.astype(dtype),
      drawn=jnp.argmax(choice, axis=-1),
      codes=jnp.argmax(logits, axis=-1),
      probabilities=jax.nn.softmax(logits, axis=-1),
      temperature=temperature,
    )

  def _temperature(self, dtype: Any) -> Float[Array, '']:
    config = self.config
    steps = self.variable(SCHEDULE, 'num_steps', jnp.zeros, (), jnp.int32)
    temperature = jnp.maximum(
      config.first_temperature
      * jnp.asarray(config.temperature_decay, dtype) ** steps.value,
      config.last_temperature,
    )
    if self.is_mutable_collection(SCHEDULE) and not self.is_initializing():
      steps.value = steps.value + 1
    return temperature


def one_hot_choice(
  logits: Float[Array, '*lead codebook'],
  *,
  temperature: Float[Array, ''] | float,
  key: PRNGKey | None,
) -> Float[Array, '*lead codebook']:
  """1 at one code; the gradient is that of the softmax, equation 1."""
  if key is not None:
    logits = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
  soft = jax.nn.softmax(logits / temperature, axis=-1)
  hard = jax.nn.one_hot(
    jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=logits.dtype
  )
  return hard + (soft - jax.lax.stop_gradient(soft))


def diversity_loss(mean_probabilities: Float[Array, ' codebook']) -> jax.Array:
  """1 - perplexity / codes: 0 if all are as likely, near 1 if one is certain.

  Equation 4's entropy is this perplexity's logarithm; this form is bounded, and
  1 is the collapse that w2v-BERT, section 5.3, speaks of.
  """
  # The logarithm's gradient at a probability that rounds to 0 is finite so.
  entropy = -jnp.sum(mean_probabilities * jnp.log(mean_probabilities + 1e-7))
  return 1 - jnp.exp(entropy) / len(mean_probabilities)
