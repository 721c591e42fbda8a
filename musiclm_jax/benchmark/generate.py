# SPDX-License-Identifier: Apache-2.0
"""How fast a whole cascade makes music, each stage beside its limit.

Three stages of one size and a codec, untrained, make a piece from codes of a
condition: no figure depends on the weights. A stage's limit is reading its
weights and the filled part of its cache once a step, at the bandwidth that was
measured in the same run; the codec's is its FLOPs at the speed of a product.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from musiclm_jax.benchmark import codec as codec_benchmark
from musiclm_jax.benchmark import limits as limits_lib
from musiclm_jax.codec.soundstream import SoundStreamConfig
from musiclm_jax.inference import windows
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.composition import Composition, Order, Section
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import coarse, fine, lm, semantic
from musiclm_jax.stages.spec import STAGES, StageSpec
from musiclm_jax.streams import TokenStream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
  """What is measured.

  Attributes:
    transformer: Of each stage.
    codec: Sizes of the codec.
    fine_is_conditioned: Whether the fine stage sees the condition too, and is
      guided: then all stages do as much as other MusicLMs do.
  """

  transformer: TransformerConfig
  codec: SoundStreamConfig
  fine_is_conditioned: bool = False

  def specs(self) -> tuple[StageSpec, ...]:
    """The paper's stages over this codec."""
    mulan = TokenStream(
      name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
    )
    codes = TokenStream(
      name='semantic', rate_hz=25, num_codebooks=1, codebook_size=1024
    )
    acoustic = self.codec.stream
    return (
      semantic.semantic(conditions=[mulan], semantic=codes),
      coarse.coarse(conditions=[mulan], semantic=codes, acoustic=acoustic),
      fine.fine(
        acoustic=acoustic,
        conditions=[mulan] if self.fine_is_conditioned else (),
      ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One line of the report.

  Attributes:
    benchmark: What was measured: a stage, the codec, or all of it.
    device: Where.
    dtype: Of the stages.
    batch_size: Pieces at a time.
    audio_seconds: Length of each.
    guidance_scale: Of the stages that see the condition; None for none.
    steps: Positions that were made one after the other.
    seconds: What it took: the median of the runs.
    best_seconds: The best of the runs.
    audio_seconds_per_second: Of all pieces together, by the median.
    limit_seconds: What the machine allows.
    share_of_limit: The median's.
    compile_seconds: The first run, less a median one.
    num_runs: Timed runs.
  """

  benchmark: str
  device: str
  dtype: str
  batch_size: int
  audio_seconds: int
  guidance_scale: float | None
  steps: int
  seconds: float
  best_seconds: float
  audio_seconds_per_second: float
  limit_seconds: float
  share_of_limit: float
  compile_seconds: float
  num_runs: int


def measure(
  pipeline: Pipeline,
  *,
  batch_size: int = 1,
  audio_seconds: int = 10,
  guidance_scale: float | None = 3.0,
  num_runs: int = 3,
) -> Iterator[Measured]:
  """Makes pieces, and gives a line for each stage, the codec and the whole."""
  dtype = pipeline.transformer.dtype
  cascade = SamplingConfig(guidance_scale=guidance_scale).apply(
    untrained(pipeline)
  )
  codec = codec_benchmark.untrained(pipeline.codec)
  order = _order(cascade, batch_size=batch_size, audio_seconds=audio_seconds)
  limits = limits_lib.measure(dtype=dtype)
  runs: list[dict[str, float]] = []
  for _ in range(1 + num_runs):
    composition = Composition(cascade, order)
    acoustic = np.concatenate([*composition.pieces()], axis=1)
    started = time.perf_counter()
    codec.decode(acoustic)
    spent = {'codec': time.perf_counter() - started}
    runs.append(composition.seconds | spent)
    limits = limits | limits_lib.measure(dtype=dtype, num_runs=1)
  costs = {
    name: _stage_cost(cascade, name, order=order, limits=limits)
    for name in STAGES
  }
  flops = codec_benchmark.decode_flops(pipeline.codec)
  total = batch_size * audio_seconds
  costs['codec'] = 0, flops * total / limits.flops_per_second
  costs['all'] = tuple(map(sum, zip(*costs.values())))
  for name, (steps, limit_seconds) in costs.items():
    first, *times = (
      sum(run.values()) if name == 'all' else run[name] for run in runs
    )
    median = statistics.median(times)
    yield Measured(
      benchmark=f'generate/{name}',
      device=limits_lib.device_name(),
      dtype=dtype,
      batch_size=batch_size,
      audio_seconds=audio_seconds,
      guidance_scale=guidance_scale,
      steps=steps,
      seconds=median,
      best_seconds=min(times),
      audio_seconds_per_second=total / median,
      limit_seconds=limit_seconds,
      share_of_limit=limit_seconds / median,
      compile_seconds=first - median,
      num_runs=num_runs,
    )


def untrained(pipeline: Pipeline) -> Cascade:
  """Stages of random weights."""
  decoders = {}
  for spec in pipeline.specs():
    model = lm.StageLMConfig(spec=spec, transformer=pipeline.transformer)
    tokens = np.zeros((1, model.layout.length), np.int32)
    variables = jax.jit(lm.StageLM(model).init)(jax.random.key(0), tokens)
    config, params = lm.to_decode(
      model,
      meta.unbox(variables)['params'],
      dtype=pipeline.transformer.dtype,
    )
    decoders[spec.name] = StageDecoder(config=config, params=params)
  return Cascade(**decoders)


def _order(cascade: Cascade, *, batch_size: int, audio_seconds: int) -> Order:
  mulan = cascade.semantic.config.spec.streams['mulan']
  shape = (batch_size, 1, mulan.num_codebooks)
  codes = np.random.default_rng(0).integers(mulan.codebook_size, size=shape)
  conditions = {mulan.name: codes.astype(np.int32)}
  return Order(
    ticks=cascade.ticks(audio_seconds),
    seeds=np.arange(batch_size, dtype=np.uint32),
    sections=(Section(start=0, conditions=conditions),),
  )


def _stage_cost(
  cascade: Cascade, name: str, *, order: Order, limits: limits_lib.Limits
) -> tuple[int, float]:
  """(steps, seconds) of a stage's part of a piece, at the bandwidth."""
  decoder: StageDecoder = getattr(cascade, name)
  layout, body = decoder.config.layout, decoder.config.transformer
  per_tick = cascade.frames(cascade.acoustic_stream, ticks=1)
  plan = windows.plan(
    known=0,
    stop=order.ticks,
    total=order.ticks,
    semantic_window=cascade.window(cascade.semantic),
    coarse_window=cascade.window(cascade.coarse),
    fine_window=cascade.fine.config.layout.output.num_frames,
    frames_per_tick=per_tick,
  )
  levels, start = layout.output.take.count, layout.output.start
  spans = [(start, layout.output.stop)]
  rows = len(order.seeds) * (1 if name != 'fine' else len(plan.fine))
  if name != 'fine':
    stream = decoder.config.spec.output.stream
    per_tick = levels * cascade.frames(stream, ticks=1)
    spans = [
      tuple(
        start + per_tick * (tick - run.start) for tick in (run.known, run.stop)
      )
      for run in getattr(plan, name)
    ]
  if decoder.decoding.guidance_scale is not None:
    rows *= 2
  cached = 2 * body.num_layers * body.num_heads * body.head_dim
  steps = sum(stop - first for first, stop in spans)
  read = sum(
    (stop - first)
    * (weights_read(decoder) + rows * cached * (first + stop) / 2)
    for first, stop in spans
  )
  itemsize = jnp.dtype(body.dtype).itemsize
  return steps, read * itemsize / limits.bytes_per_second


def weights_read(decoder: StageDecoder) -> int:
  """In a step: of the input table a row, of the logits' those of one level."""
  params, take = decoder.params, decoder.config.layout.output.take
  tables = params['inputs']['table'].size + params['logit_table'].size
  weights = sum(leaf.size for leaf in jax.tree.leaves(params)) - tables
  width = decoder.config.transformer.embed_dim
  return weights + take.stream.codebook_size * width
