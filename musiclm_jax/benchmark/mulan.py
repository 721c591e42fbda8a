# SPDX-License-Identifier: Apache-2.0
"""How fast MuLan trains, beside the limit.

FLOPs are those of the products and convolutions of one forward pass, three
times: a backward pass costs two. What is computed again to save memory does not
count, nor do spectrograms. Weights, audio and texts are random: no figure
depends on them.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.array_types import Batch
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.mulan import wordpiece
from musiclm_jax.mulan.objective import MulanObjective
from musiclm_jax.training import optimizers, products
from musiclm_jax.training.step import Training

# Of BERT-base, uncased.
_NUM_TOKENS = 30522


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured.
    device: Where.
    dtype: Compute type of the audio tower.
    num_parameters: Of both towers.
    batch_size: Pairs of a step.
    tower_rows: Pairs in the towers at a time; None for all.
    audio_seconds_per_second: The median of the runs.
    best_audio_seconds_per_second: The best of the runs.
    flops_per_pair: Useful ones.
    flops_per_second: Achieved by the median run.
    gemm_flops_per_second: Of a matrix product, the best seen in the same run.
    share_of_gemm: The median's.
    best_share_of_gemm: The best run's.
    compile_seconds: The first step, less a median one.
    num_runs: Timed steps.
  """

  benchmark: str
  device: str
  dtype: str
  num_parameters: int
  batch_size: int
  tower_rows: int | None
  audio_seconds_per_second: float
  best_audio_seconds_per_second: float
  flops_per_pair: float
  flops_per_second: float
  gemm_flops_per_second: float
  share_of_gemm: float
  best_share_of_gemm: float
  compile_seconds: float
  num_runs: int


def vocabulary(*, num_tokens: int = _NUM_TOKENS) -> wordpiece.WordPiece:
  """As many tokens as BERT has, for its cost without its files."""
  words = (f'word{n}' for n in range(num_tokens - len(wordpiece.SPECIAL)))
  return wordpiece.WordPiece(tokens=(*wordpiece.SPECIAL, *words))


def measure_training(
  objective: MulanObjective, *, batch_size: int, num_runs: int = 3
) -> Measured:
  """Takes whole AdamW steps."""
  dtype = objective.model.audio.body.types['dtype']
  batch = random_batch(objective, batch_size=batch_size)
  training = Training(
    objective=objective, optimizer=optimizers.adamw(learning_rate=1e-4)
  )
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  step = jax.jit(training.train_step, donate_argnums=0)

  def train() -> Any:
    nonlocal state
    state, metrics = step(state, batch)
    return metrics

  limits = limits_lib.measure(dtype=dtype.name)
  first = limits_lib.seconds_of(train, num_runs=1)[0]
  times = []
  # In turn with the limit, since whoever shares the machine comes and goes.
  for _ in range(num_runs):
    limits |= limits_lib.measure(dtype=dtype.name, num_runs=1)
    times += limits_lib.seconds_of(train, num_runs=1)
  flops = train_flops(objective, batch)
  median, best = statistics.median(times), min(times)
  audio_seconds = batch_size * objective.model.audio.window_seconds
  return Measured(
    benchmark='mulan/train',
    device=limits_lib.device_name(),
    dtype=dtype.name,
    num_parameters=num_parameters,
    batch_size=batch_size,
    tower_rows=objective.tower_rows,
    audio_seconds_per_second=audio_seconds / median,
    best_audio_seconds_per_second=audio_seconds / best,
    flops_per_pair=flops / batch_size,
    flops_per_second=flops / median,
    gemm_flops_per_second=limits.flops_per_second,
    share_of_gemm=flops / median / limits.flops_per_second,
    best_share_of_gemm=flops / best / limits.flops_per_second,
    compile_seconds=first - median,
    num_runs=num_runs,
  )


def random_batch(objective: MulanObjective, *, batch_size: int) -> Batch:
  """Noise, and texts as long as the tower takes."""
  model = objective.model
  draws = np.random.default_rng(0)
  shape = (batch_size, model.window_samples)
  tokens = draws.integers(
    len(model.text.vocabulary.tokens), size=(batch_size, model.max_tokens)
  )
  return {
    batches.WAVEFORM: jnp.asarray(draws.uniform(-1, 1, shape), jnp.float32),
    batches.SAMPLE_MASK: jnp.ones(shape, bool),
    batches.TEXT_TOKENS: jnp.asarray(tokens, jnp.int32),
    batches.TEXT_MASK: jnp.ones(tokens.shape, bool),
  }


def train_flops(objective: MulanObjective, batch: Batch) -> int:
  """Useful ones of one step."""
  key = jax.random.key(0)
  variables = meta.unbox(jax.eval_shape(objective.init, key, batch))
  return 3 * products.flops_of(objective.loss, variables, batch, key)
