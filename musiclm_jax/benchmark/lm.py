# SPDX-License-Identifier: Apache-2.0
"""How fast a small stage model decodes and trains, beside the machine's limits.

The model has 6 layers of 8 heads, width 512, a gated feed-forward of 1365 and
one codebook of 1024: weights, bytes and FLOPs of the usual 6 × 512 model with a
plain feed-forward of 2048. Decoding makes 512 codes from an empty cache; a
training step sees 8 rows of 512.
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
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.inference import decoding
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import TokenStream
from musiclm_jax.training import optimizers
from musiclm_jax.training.step import Training

NUM_CODES = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured.
    device: Where.
    dtype: In which type; of 'int8' the layers' kernels are.
    batch_size: Rows at a time.
    tokens_per_second: Of all rows together: the median of the runs.
    best_tokens_per_second: The best of the runs.
    limit_tokens_per_second: What the machine allows, see `limited_by`.
    share_of_limit: The median's.
    limited_by: 'bandwidth' or 'products'.
    limit: Bytes or FLOPs a second that were measured in the same run.
    compile_seconds: The first call, less a median one.
    num_runs: Timed calls.
  """

  benchmark: str
  device: str
  dtype: str
  batch_size: int
  tokens_per_second: float
  best_tokens_per_second: float
  limit_tokens_per_second: float
  share_of_limit: float
  limited_by: str
  limit: float
  compile_seconds: float
  num_runs: int


def config(
  *, dtype: str = 'float32', num_codes: int = NUM_CODES, num_layers: int = 6
) -> lm.StageLMConfig:
  """The benchmark's model, over rows of `num_codes` codes and no inputs."""
  stream = TokenStream(
    name='codes', rate_hz=num_codes, num_codebooks=1, codebook_size=1024
  )
  return lm.StageLMConfig(
    spec=StageSpec(
      name='benchmark',
      inputs=(),
      output=Take(stream=stream),
      window_seconds=1,
    ),
    transformer=TransformerConfig(
      num_layers=num_layers,
      num_heads=8,
      embed_dim=512,
      mlp_dim=1365,
      dropout_rate=0.0,
      dtype=dtype,
    ),
  )


def measure_decoding(
  model: lm.StageLMConfig,
  *,
  batch_size: int,
  dtype: str | None = None,
  segment_length: int = 128,
  num_runs: int = 5,
) -> Measured:
  """Decodes whole rows, in `dtype` or the model's."""
  body, layout = model.transformer, model.layout
  dtype = dtype or body.dtype
  limits = limits_lib.measure(dtype=body.dtype)
  tokens = layout.pack_prompt({}, num_rows=batch_size)
  model, params = lm.to_decode(model, _params(model, tokens), dtype=dtype)
  decoder = decoding.StageDecoder(
    config=model,
    params=params,
    decoding=decoding.DecodingConfig(segment_length=segment_length),
  )
  keys = decoding.request_keys(np.arange(batch_size))

  def decode() -> np.ndarray:
    return decoder.decode(tokens, keys=keys)

  (first,) = limits_lib.seconds_of(decode, num_runs=1)
  seconds = limits_lib.seconds_of(decode, num_runs=num_runs)
  limits = limits | limits_lib.measure(dtype=body.dtype)
  # Read at each step: every weight but the input table, and the filled part of
  # the cache.
  itemsize = jnp.dtype(body.dtype).itemsize
  num_codes = layout.output.num_frames
  cached = 2 * body.num_layers * body.num_heads * body.head_dim
  step_bytes = (
    sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    - params['inputs']['table'].nbytes
    + itemsize * batch_size * cached * num_codes / 2
  )
  return _measured(
    'lm/decode',
    dtype,
    batch_size=batch_size,
    num_tokens=batch_size * num_codes,
    first=first,
    seconds=seconds,
    limited_by='bandwidth',
    limit=limits.bytes_per_second,
    cost_per_token=step_bytes / batch_size,
  )


def measure_training(
  model: lm.StageLMConfig, *, batch_size: int, num_runs: int = 3
) -> Measured:
  """Takes whole AdamW steps."""
  body, output = model.transformer, model.layout.output
  limits = limits_lib.measure(dtype=body.dtype)
  codes = np.random.default_rng(0).integers(
    output.take.stream.codebook_size, size=(batch_size, output.num_frames, 1)
  )
  batch = {
    batches.codes_key(output.take.stream.name): jnp.asarray(codes, jnp.int32)
  }
  training = Training(
    objective=StageObjective(model=model),
    optimizer=optimizers.adamw(learning_rate=1e-4),
  )
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  num_weights = _num_weights(state.params)
  step = jax.jit(training.train_step, donate_argnums=0)

  def train() -> Any:
    nonlocal state
    state, metrics = step(state, batch)
    return state, metrics

  (first,) = limits_lib.seconds_of(train, num_runs=1)
  seconds = limits_lib.seconds_of(train, num_runs=num_runs)
  limits = limits | limits_lib.measure(dtype=body.dtype)
  # 6 N and whole (not causal) attention.
  attention = 12 * body.num_layers * body.num_heads * body.head_dim
  return _measured(
    'lm/train',
    body.dtype,
    batch_size=batch_size,
    num_tokens=batch_size * output.num_frames,
    first=first,
    seconds=seconds,
    limited_by='products',
    limit=limits.flops_per_second,
    cost_per_token=float(6 * num_weights + attention * output.num_frames),
  )


def _measured(
  benchmark: str,
  dtype: str,
  *,
  batch_size: int,
  num_tokens: int,
  first: float,
  seconds: list[float],
  limited_by: str,
  limit: float,
  cost_per_token: float,
) -> Measured:
  median = statistics.median(seconds)
  allowed = limit / cost_per_token
  return Measured(
    benchmark=benchmark,
    device=limits_lib.device_name(),
    dtype=dtype,
    batch_size=batch_size,
    tokens_per_second=num_tokens / median,
    best_tokens_per_second=num_tokens / min(seconds),
    limit_tokens_per_second=allowed,
    share_of_limit=num_tokens / median / allowed,
    limited_by=limited_by,
    limit=limit,
    compile_seconds=first - median,
    num_runs=len(seconds),
  )


def _params(model: lm.StageLMConfig, tokens: np.ndarray) -> Any:
  variables = jax.jit(lm.StageLM(model).init)(jax.random.key(0), tokens)
  return meta.unbox(variables)['params']


def _num_weights(params: Any) -> int:
  """Without the input table, of which a step reads a row."""
  table = params['inputs']['table']
  return sum(leaf.size for leaf in jax.tree.leaves(params)) - table.size
