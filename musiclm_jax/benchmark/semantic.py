# SPDX-License-Identifier: Apache-2.0
"""How fast a w2v-BERT trains and makes semantic codes, beside the limit.

FLOPs are those of the matrix products and convolutions of one forward pass, and
thrice as many for a training step; blocks that are computed twice to save
memory count once. The weights are random: no figure depends on them.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.array_types import Batch
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.semantic import tokenizer
from musiclm_jax.semantic.objective import W2vBertObjective
from musiclm_jax.training import optimizers, products
from musiclm_jax.training.step import Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured.
    device: Where.
    dtype: Compute type.
    embed_dim: Width of the model.
    num_blocks: Conformer blocks that are run.
    batch_size: Waveforms at a time.
    seconds: Of each waveform.
    audio_seconds_per_second: Of all waveforms together: the median of the runs.
    best_audio_seconds_per_second: The best of the runs.
    flops_per_audio_second: Useful ones.
    gemm_flops_per_second: Of a matrix product, the best seen in the same run.
    share_of_gemm: The median's.
    best_share_of_gemm: The best run's.
    compile_seconds: The first call, less a median one.
    num_runs: Timed calls.
  """

  benchmark: str
  device: str
  dtype: str
  embed_dim: int
  num_blocks: int
  batch_size: int
  seconds: int
  audio_seconds_per_second: float
  best_audio_seconds_per_second: float
  flops_per_audio_second: float
  gemm_flops_per_second: float
  share_of_gemm: float
  best_share_of_gemm: float
  compile_seconds: float
  num_runs: int


def measure_encoding(
  objective: W2vBertObjective,
  *,
  num_mlm_blocks: int,
  batch_size: int = 1,
  seconds: int = 30,
  num_runs: int = 5,
) -> Measured:
  """Makes codes of noise, from memory to memory."""
  encoder = untrained(objective, num_mlm_blocks=num_mlm_blocks)
  config, rate = encoder.config, encoder.sample_rate_hz
  noise = _noise(objective, batch_size=batch_size, seconds=seconds)
  waveform = np.asarray(noise[batches.WAVEFORM])

  def encode() -> np.ndarray:
    return encoder.encode(waveform, sample_rate_hz=rate)

  params = jax.eval_shape(objective.init, jax.random.key(0), noise)
  flops = products.flops_of(
    lambda params, rows: config.features(
      params,
      rows[batches.WAVEFORM],
      sample_mask=rows[batches.SAMPLE_MASK],
    ),
    _separate(objective, meta.unbox(params)['params']),
    noise,
  )
  return _measured(
    'semantic/encode',
    objective,
    encode,
    num_blocks=objective.model.num_contrastive_blocks + num_mlm_blocks,
    batch_size=batch_size,
    seconds=seconds,
    flops=flops,
    num_runs=num_runs,
  )


def measure_training(
  objective: W2vBertObjective,
  *,
  batch_size: int = 1,
  seconds: int = 10,
  num_runs: int = 3,
) -> Measured:
  """Takes whole Adam steps, on noise."""
  model = objective.model
  batch = _noise(objective, batch_size=batch_size, seconds=seconds)
  training = Training(
    objective=objective, optimizer=optimizers.adam(learning_rate=1e-4)
  )
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  step = jax.jit(training.train_step, donate_argnums=0)

  def train() -> Any:
    nonlocal state
    state, metrics = step(state, batch)
    return metrics

  return _measured(
    'semantic/train',
    objective,
    train,
    num_blocks=model.num_contrastive_blocks + model.num_mlm_blocks,
    batch_size=batch_size,
    seconds=seconds,
    flops=train_flops(objective, batch),
    num_runs=num_runs,
  )


def train_flops(objective: W2vBertObjective, batch: Batch) -> int:
  """Of one step: a backward pass costs a forward pass twice over."""
  key = jax.random.key(0)
  variables = meta.unbox(jax.eval_shape(objective.init, key, batch))
  return 3 * products.flops_of(objective.loss, variables, batch, key)


def untrained(
  objective: W2vBertObjective, *, num_mlm_blocks: int
) -> tokenizer.SemanticTokenizer:
  """A tokenizer of random weights, with the paper's 1,024 clusters."""
  batch = _noise(objective, batch_size=1, seconds=1)
  variables = jax.jit(objective.init)(jax.random.key(0), batch)
  contents = objective.bundle(variables)
  config = tokenizer.SemanticTokenizerConfig(
    model=contents.config, num_mlm_blocks=num_mlm_blocks
  )
  width = objective.model.embed_dim
  centroids = jax.random.normal(jax.random.key(1), (config.num_clusters, width))
  weights = {
    tokenizer.PARAMS: config.needed(contents.weights['params']),
    tokenizer.SCALER: {
      'mean': jnp.zeros(width),
      'deviation': jnp.ones(width),
    },
    tokenizer.CENTROIDS: centroids,
  }
  return config.make_tokenizer(weights, stream=config.stream)


def _separate(objective: W2vBertObjective, params: Any) -> Any:
  """Shapes of the parameters with separate blocks."""
  return jax.eval_shape(
    lambda params: objective.bundle({'params': params}).weights['params'],
    params,
  )


def _noise(
  objective: W2vBertObjective, *, batch_size: int, seconds: int
) -> Batch:
  shape = (batch_size, seconds * objective.model.sample_rate_hz)
  noise = np.random.default_rng(0).uniform(-1, 1, shape)
  return {
    batches.WAVEFORM: jnp.asarray(noise, jnp.float32),
    batches.SAMPLE_MASK: jnp.ones(shape, bool),
  }


def _measured(
  benchmark: str,
  objective: W2vBertObjective,
  call: Callable[[], Any],
  *,
  num_blocks: int,
  batch_size: int,
  seconds: int,
  flops: int,
  num_runs: int,
) -> Measured:
  """Times `call`, in turn with the limit: others come and go."""
  limits = limits_lib.measure()
  first = limits_lib.seconds_of(call, num_runs=1)[0]
  times = []
  for _ in range(num_runs):
    limits |= limits_lib.measure(num_runs=1)
    times += limits_lib.seconds_of(call, num_runs=1)
  median, best = statistics.median(times), min(times)
  audio_seconds = batch_size * seconds
  return Measured(
    benchmark=benchmark,
    device=limits_lib.device_name(),
    dtype=objective.model.block.dtype,
    embed_dim=objective.model.embed_dim,
    num_blocks=num_blocks,
    batch_size=batch_size,
    seconds=seconds,
    audio_seconds_per_second=audio_seconds / median,
    best_audio_seconds_per_second=audio_seconds / best,
    flops_per_audio_second=flops / audio_seconds,
    gemm_flops_per_second=limits.flops_per_second,
    share_of_gemm=flops / median / limits.flops_per_second,
    best_share_of_gemm=flops / best / limits.flops_per_second,
    compile_seconds=first - median,
    num_runs=num_runs,
  )
