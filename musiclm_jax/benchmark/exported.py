# SPDX-License-Identifier: Apache-2.0
"""How fast an exported folder decodes beside the JAX model it was made of.

Both make the same rows of each stage and the same chunk of audio, one after the
other in every run, so that whoever shares the machine slows down both; on a CPU
with as many threads. JAX's steps are compiled, PyTorch's are if that is asked
for; first calls, which compile, are told apart. Limits are those of
`benchmark.lm` and `benchmark.codec`: reading weights and the filled part of the
cache once a step, and the codec's FLOPs as one matrix product.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.benchmark import codec as codec_benchmark
from musiclm_jax.benchmark import generate
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.checkpoints import bundle
from musiclm_jax.export.running import Exported
from musiclm_jax.inference import assembly as assemblies
from musiclm_jax.inference import decoding, rows
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.stages.spec import STAGES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured.
    framework: 'jax', 'torch' or, of a stage alone, 'torch, compiled'.
    device: Where.
    batch_size: Rows, or waveforms, at a time.
    unit: What is counted: 'tokens' or 'audio seconds', of all rows together.
    per_second: By the median of the runs.
    best_per_second: By the best of the runs.
    limit_per_second: What the machine allows, see `limited_by`.
    share_of_limit: The median's.
    limited_by: 'bandwidth' or 'products', measured in the same run.
    of_jax: How many times as fast as JAX, by the medians.
    first_seconds: The first call, less a median one.
    num_runs: Timed calls.
  """

  benchmark: str
  framework: str
  device: str
  batch_size: int
  unit: str
  per_second: float
  best_per_second: float
  limit_per_second: float
  share_of_limit: float
  limited_by: str
  of_jax: float
  first_seconds: float
  num_runs: int


def measure(
  model: str | os.PathLike[str],
  exported: str | os.PathLike[str],
  *,
  batch_sizes: Sequence[int] = (1, 8),
  seconds: int = 10,
  num_runs: int = 5,
  compiled: bool = False,
) -> Iterator[Measured]:
  """Measures every stage at each batch size, then the codec at a batch of 1.

  Args:
    model: The folder of `music_lm.json`.
    exported: What `musiclm export` made of it.
    batch_sizes: Rows of a stage.
    seconds: Of a waveform.
    num_runs: Timed runs of each.
    compiled: Whether PyTorch compiles the steps of the stages.

  Raises:
    ValueError: Rows would be filled up to a bucket, which JAX does elsewhere.
  """
  for size in batch_sizes:
    if (filled := rows.bucket(size)) != size:
      raise ValueError(
        f'{size} rows are decoded as {filled}; measure a batch size of'
        f' {filled}.'
      )
  music_lm = MusicLM.load(model)
  # Both on one device and in one type, or the limits would not be the twin's.
  twin = Exported(
    exported,
    device='cuda' if jax.default_backend() == 'gpu' else 'cpu',
    dtypes={
      name: getattr(music_lm.cascade, name).config.transformer.dtype
      for name in STAGES
    },
    compiled=compiled,
  )
  for name in STAGES:
    for batch_size in batch_sizes:
      yield from measure_stage(
        getattr(music_lm.cascade, name),
        twin,
        name=name,
        batch_size=batch_size,
        num_runs=num_runs,
      )
  config = bundle.load(assemblies.read(model).codec).config
  yield from measure_codec(
    music_lm.codec, twin, config=config, seconds=seconds, num_runs=num_runs
  )


def measure_stage(
  decoder: decoding.StageDecoder,
  twin: Exported,
  *,
  name: str,
  batch_size: int,
  num_runs: int,
) -> Iterator[Measured]:
  """Decodes whole rows after a prompt of zeros."""
  layout, body = decoder.config.layout, decoder.config.transformer
  zeros = {
    segment.take.stream.name: np.zeros(
      (batch_size, segment.num_frames, segment.take.stream.num_codebooks),
      np.int32,
    )
    for segment in layout.segments
  }
  tokens = np.asarray(layout.pack_prompt(zeros, num_rows=batch_size))
  keys = decoding.request_keys(np.arange(batch_size))
  output = layout.output
  cached = 2 * body.num_layers * body.num_heads * body.head_dim
  read = generate.weights_read(decoder) + batch_size * cached * (
    (output.start + output.stop) / 2
  )
  yield from _measured(
    f'torch/decode/{name}',
    {
      'jax': lambda: decoder.decode(tokens, keys=keys),
      twin.framework: lambda: twin.decode_stage(name, tokens),
    },
    twin=twin,
    batch_size=batch_size,
    unit='tokens',
    amount=batch_size * (output.stop - output.start),
    cost=read * jnp.dtype(body.dtype).itemsize / batch_size,
    limited_by='bandwidth',
    num_runs=num_runs,
  )


def measure_codec(
  codec: Any, twin: Exported, *, config: Any, seconds: int, num_runs: int
) -> Iterator[Measured]:
  """Encodes noise, if there is an encoder, and decodes random codes."""
  stream, rate = codec.stream, codec.sample_rate_hz
  draws = np.random.default_rng(0)
  frames = stream.num_frames(seconds)
  waveform = draws.uniform(-1, 1, (1, frames * codec.hop_samples))
  waveform = waveform.astype(np.float32)
  codes = draws.integers(
    stream.codebook_size, size=(1, frames, stream.num_codebooks)
  )
  calls = {
    'encode': (
      lambda: codec.encode(waveform, sample_rate_hz=rate),
      lambda: twin.encode(waveform),
      codec_benchmark.encode_flops(config),
    ),
    'decode': (
      lambda: codec.decode(codes),
      lambda: twin.decode(codes),
      codec_benchmark.decode_flops(config),
    ),
  }
  if not twin.can_encode:
    del calls['encode']
  for name, (in_jax, in_torch, flops) in calls.items():
    yield from _measured(
      f'torch/codec/{name}',
      {'jax': in_jax, 'torch': in_torch},  # Never compiled.
      twin=twin,
      batch_size=1,
      unit='audio seconds',
      amount=seconds,
      cost=flops,
      limited_by='products',
      num_runs=num_runs,
    )


def _measured(
  benchmark: str,
  calls: dict[str, Callable[[], Any]],
  *,
  twin: Exported,
  batch_size: int,
  unit: str,
  amount: int,
  cost: float,
  limited_by: str,
  num_runs: int,
) -> Iterator[Measured]:
  """Times both in turn; `cost` is bytes or FLOPs of one unit."""
  first = {
    name: limits_lib.seconds_of(call, num_runs=1)[0]
    for name, call in calls.items()
  }
  limits = limits_lib.measure()
  times: dict[str, list[float]] = {name: [] for name in calls}
  for _ in range(num_runs):
    limits |= limits_lib.measure(num_runs=1)
    for name, call in calls.items():
      times[name] += limits_lib.seconds_of(call, num_runs=1)
  medians = {name: statistics.median(spent) for name, spent in times.items()}
  at_most = {
    'bandwidth': limits.bytes_per_second,
    'products': limits.flops_per_second,
  }[limited_by]
  for name, median in medians.items():
    yield Measured(
      benchmark=benchmark,
      framework=name,
      device=limits_lib.device_name() if name == 'jax' else twin.device_name,
      batch_size=batch_size,
      unit=unit,
      per_second=amount / median,
      best_per_second=amount / min(times[name]),
      limit_per_second=at_most / cost,
      share_of_limit=amount / median * cost / at_most,
      limited_by=limited_by,
      of_jax=medians['jax'] / median,
      first_seconds=first[name] - median,
      num_runs=num_runs,
    )
