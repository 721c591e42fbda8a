# SPDX-License-Identifier: Apache-2.0
"""How fast a SoundStream encodes, decodes and trains, beside the limit.

FLOPs are what the convolutions and the search for codes need on paper, two a
multiply-add; what a program computes beyond that does not count. The weights
are random: no figure depends on them.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.array_types import Batch
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.codec.chunked import ChunkedCodec
from musiclm_jax.codec.objective import SoundStreamObjective
from musiclm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from musiclm_jax.training import optimizers, products
from musiclm_jax.training.adversarial import AdversarialTraining


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured.
    device: Where.
    dtype: Compute type.
    channels: Of the codec.
    batch_size: Waveforms at a time.
    seconds: Of each waveform.
    audio_seconds_per_second: Of all waveforms together: the median of the runs.
    best_audio_seconds_per_second: The best of the runs.
    flops_per_audio_second: Useful ones.
    flops_per_second: Achieved by the median run.
    gemm_flops_per_second: Of a matrix product, the best seen in the same run.
    share_of_gemm: The median's.
    best_share_of_gemm: The best run's.
    compile_seconds: The first call, less a median one.
    num_runs: Timed calls.
  """

  benchmark: str
  device: str
  dtype: str
  channels: int
  batch_size: int
  seconds: int
  audio_seconds_per_second: float
  best_audio_seconds_per_second: float
  flops_per_audio_second: float
  flops_per_second: float
  gemm_flops_per_second: float
  share_of_gemm: float
  best_share_of_gemm: float
  compile_seconds: float
  num_runs: int


def measure(
  config: SoundStreamConfig,
  *,
  batch_size: int = 1,
  seconds: int = 10,
  num_runs: int = 7,
) -> tuple[Measured, Measured]:
  """Encodes noise and decodes random codes, from memory to memory."""
  codec = untrained(config)
  stream, rate = config.stream, config.sample_rate_hz
  frames = stream.num_frames(seconds)
  generator = np.random.default_rng(0)
  waveform = generator.uniform(
    -1, 1, (batch_size, frames * config.hop_samples)
  ).astype(np.float32)
  codes = generator.integers(
    stream.codebook_size, size=(batch_size, frames, stream.num_codebooks)
  )
  calls = {
    'encode': lambda: codec.encode(waveform, sample_rate_hz=rate),
    'decode': lambda: codec.decode(codes),
  }
  limits = limits_lib.measure()
  first, seconds_of = {}, {name: [] for name in calls}
  for name, call in calls.items():
    first[name] = limits_lib.seconds_of(call, num_runs=1)[0]
  # In turn with the limit, since whoever shares the machine comes and goes.
  for _ in range(num_runs):
    limits |= limits_lib.measure(num_runs=1)
    for name, call in calls.items():
      seconds_of[name] += limits_lib.seconds_of(call, num_runs=1)
  return tuple(
    _measured(
      f'codec/{name}',
      config,
      batch_size=batch_size,
      seconds=seconds,
      first=first[name],
      times=seconds_of[name],
      flops=flops(config),
      limit=limits.flops_per_second,
    )
    for name, flops in (('encode', encode_flops), ('decode', decode_flops))
  )


def measure_training(
  objective: SoundStreamObjective,
  *,
  batch_size: int = 1,
  seconds: int = 1,
  num_runs: int = 3,
) -> Measured:
  """Takes whole steps of both players, on noise."""
  config = objective.codec
  shape = (batch_size, config.stream.num_frames(seconds) * config.hop_samples)
  noise = np.random.default_rng(0).uniform(-1, 1, shape)
  batch = {
    batches.WAVEFORM: jnp.asarray(noise, jnp.float32),
    batches.SAMPLE_MASK: jnp.ones(shape, bool),
  }
  adam = functools.partial(optimizers.adam, learning_rate=1e-4)
  training = AdversarialTraining(
    objective=objective,
    generator_optimizer=adam(),
    discriminator_optimizer=adam(),
  )
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  step = jax.jit(training.train_step, donate_argnums=0)

  def train() -> Any:
    nonlocal state
    state, metrics = step(state, batch)
    return metrics

  limits = limits_lib.measure()
  first = limits_lib.seconds_of(train, num_runs=1)[0]
  train()  # The first step started the codebooks; this is the first usual one.
  times = []
  for _ in range(num_runs):
    limits |= limits_lib.measure(num_runs=1)
    times += limits_lib.seconds_of(train, num_runs=1)
  return _measured(
    'codec/train',
    config,
    batch_size=batch_size,
    seconds=seconds,
    first=first,
    times=times,
    flops=train_flops(objective, batch) / (batch_size * seconds),
    limit=limits.flops_per_second,
  )


def train_flops(objective: SoundStreamObjective, batch: Batch) -> int:
  """Of one step of both players that share their forward passes.

  A backward pass costs the forward pass twice over: towards the inputs and
  towards the parameters. The generator makes one of each. The discriminators
  listen to two waveforms, pass back both ways for their own loss, and back to
  the fake once more for the generator's.
  """
  key = jax.random.key(0)
  waveform = batch[batches.WAVEFORM]
  variables = meta.unbox(jax.eval_shape(objective.init, key, batch))
  generator = encode_flops(objective.codec) + decode_flops(objective.codec)
  two_listen = products.flops_of(
    objective.judge, variables['discriminator']['params'], batch, waveform
  )
  audio_seconds = waveform.size / objective.codec.sample_rate_hz
  return round(3 * generator * audio_seconds + 7 / 2 * two_listen)


def untrained(config: SoundStreamConfig) -> ChunkedCodec:
  """A codec of random weights."""
  key = jax.random.key(0)
  hop = np.zeros((1, config.hop_samples), np.float32)
  variables = jax.jit(SoundStream(config).init)(key, hop, key=key)
  return config.make_codec(meta.unbox(variables), stream=config.stream)


def encode_flops(config: SoundStreamConfig) -> float:
  """Of one second of audio, the search for its codes included."""
  quantizer = config.quantizer
  search = (
    quantizer.num_levels
    * quantizer.codebook_size
    * (quantizer.factorized_dim or config.embed_dim)
  )
  return _block_flops(config) + _frame_flops(config, taps=3, search=search)


def decode_flops(config: SoundStreamConfig) -> float:
  """Of one second of audio."""
  return _block_flops(config) + _frame_flops(config, taps=7)


def _block_flops(config: SoundStreamConfig) -> float:
  """What encoder and decoder share: all but the layer beside the latents."""
  width, rate_hz = config.channels, config.sample_rate_hz
  taken = 7 * width * rate_hz
  for stride in config.strides:
    # Three residual units of 7 + 1 taps, and a change of rate of 2 strides,
    # each of whose taps is met once in a stride.
    taken += (3 * 8 + 2 * 2) * width**2 * rate_hz
    width, rate_hz = 2 * width, rate_hz / stride
  return 2 * taken


def _frame_flops(
  config: SoundStreamConfig, *, taps: int, search: int = 0
) -> float:
  """What is done once a frame."""
  width = config.channels * 2 ** len(config.strides)
  taken = taps * width * config.embed_dim + search
  return 2 * taken * float(config.stream.rate_hz)


def _measured(
  benchmark: str,
  config: SoundStreamConfig,
  *,
  batch_size: int,
  seconds: int,
  first: float,
  times: list[float],
  flops: float,
  limit: float,
) -> Measured:
  median, best = statistics.median(times), min(times)
  audio_seconds = batch_size * seconds
  return Measured(
    benchmark=benchmark,
    device=limits_lib.device_name(),
    dtype=config.dtype,
    channels=config.channels,
    batch_size=batch_size,
    seconds=seconds,
    audio_seconds_per_second=audio_seconds / median,
    best_audio_seconds_per_second=audio_seconds / best,
    flops_per_audio_second=flops,
    flops_per_second=flops * audio_seconds / median,
    gemm_flops_per_second=limit,
    share_of_gemm=flops * audio_seconds / median / limit,
    best_share_of_gemm=flops * audio_seconds / best / limit,
    compile_seconds=first - median,
    num_runs=len(times),
  )
