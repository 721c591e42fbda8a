# SPDX-License-Identifier: Apache-2.0
"""What generating with a stage costs: caches, batch, and how fast at best.

A step reads the weights once, with the logits of one level alone, and the filled
part of every row's cache; both in bfloat16, one copy of the model a chip. The
first window is meant: from its inputs to its last code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta

from musiclm_jax.planning.devices import Topology
from musiclm_jax.planning.plan import USABLE_SHARE
from musiclm_jax.stages import lm
from musiclm_jax.stages.objective import StageObjective

_DTYPE = 'bfloat16'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
  """A stage on chips that each hold all of it.

  Attributes:
    stage: Its name.
    topology: The chips.
    num_steps: Codes of a window, made one after another.
    window_seconds: Music in a window.
    weight_bytes: Of the whole model.
    cache_bytes: Of a row of full length.
    max_batch: Rows that a chip has room for.
    step_seconds: Of one row, at best.
    max_batch_step_seconds: Of as many rows as there is room for.
  """

  stage: str
  topology: str
  num_steps: int
  window_seconds: float
  weight_bytes: int
  cache_bytes: int
  max_batch: int
  step_seconds: float
  max_batch_step_seconds: float

  @property
  def real_time_factor(self) -> float:
    """Seconds of music a second, of one row."""
    return self.window_seconds / (self.num_steps * self.step_seconds)

  @property
  def topology_real_time_factor(self) -> float:
    """Of all rows of all chips together."""
    rows = self.max_batch * Topology.parse(self.topology).num_chips
    seconds = self.num_steps * self.max_batch_step_seconds
    return rows * self.window_seconds / seconds

  def to_json(self) -> dict[str, Any]:
    return {
      **dataclasses.asdict(self),
      'real_time_factor': self.real_time_factor,
      'topology_real_time_factor': self.topology_real_time_factor,
    }

  def page(self) -> str:
    """For people."""
    return '\n'.join(
      (
        f'{self.stage} on {self.topology}, one copy a chip, in {_DTYPE}',
        f'weights               {self.weight_bytes / 1e6:,.1f} MB',
        f'cache of a row        {self.cache_bytes / 1e6:,.1f} MB',
        f'rows of a chip        {self.max_batch:,} at most',
        f'a window              {self.window_seconds:g} s in {self.num_steps:,}'
        ' steps',
        f'a step at best        {self.step_seconds * 1e6:,.0f} us with 1 row,'
        f' {self.max_batch_step_seconds * 1e6:,.0f} us with all',
        f'real-time factor      {self.real_time_factor:,.1f} of 1 row,'
        f' {self.topology_real_time_factor:,.0f} of all rows of all chips',
      )
    )


def plan(objective: Any, *, topology: Topology) -> Decoding:
  """What decoding the stage costs.

  Raises:
    ValueError: It is no stage, or does not fit a chip.
  """
  if not isinstance(objective, StageObjective):
    raise ValueError(
      f'{type(objective).__name__} generates nothing step by step; --decode'
      ' plans a stage.'
    )
  model = objective.model
  body, layout = model.transformer, model.layout
  itemsize = jnp.dtype(_DTYPE).itemsize
  params = _params(model)
  weight_bytes = itemsize * _count(params)
  width = layout.output.take.stream.codebook_size * body.embed_dim
  num_read = width + _count(params['transformer'])
  per_position = body.num_layers * body.num_heads * body.head_dim
  kv_bytes = 2 * per_position * itemsize
  start, stop = layout.output.start, layout.output.stop
  filled = (start + stop) / 2
  chip = topology.chip
  cache_bytes = kv_bytes * layout.length
  room = USABLE_SHARE * chip.memory_bytes - weight_bytes
  max_batch = int(room // cache_bytes)
  if max_batch < 1:
    raise ValueError(
      f'Weights of {weight_bytes / 1e9:.2f} GB and a cache of'
      f' {cache_bytes / 1e9:.2f} GB do not fit a chip of {topology.name}, which'
      f' has {chip.memory_bytes / 1e9:.2f} GB; take a larger chip.'
    )

  def seconds(num_rows: int) -> float:
    read = itemsize * num_read + num_rows * filled * kv_bytes
    flops = num_rows * (2 * num_read + 4 * per_position * filled)
    return max(read / chip.bytes_per_second, flops / chip.flops_per_second)

  return Decoding(
    stage=model.spec.name,
    topology=topology.name,
    num_steps=stop - start,
    window_seconds=float(model.spec.window_seconds),
    weight_bytes=weight_bytes,
    cache_bytes=cache_bytes,
    max_batch=max_batch,
    step_seconds=seconds(1),
    max_batch_step_seconds=seconds(max_batch),
  )


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _params(model: lm.StageLMConfig) -> Any:
  tokens = jax.ShapeDtypeStruct((1, model.layout.length), jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return meta.unbox(jax.eval_shape(lm.StageLM(model).init, key, tokens))[
    'params'
  ]
