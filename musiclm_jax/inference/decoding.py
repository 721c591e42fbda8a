# SPDX-License-Identifier: Apache-2.0
"""The decoder of every stage: rows with room in, whole rows out.

The prompt is read in one pass. Then a compiled loop makes one position of all
rows at a time, with a cache of fixed capacity; between loops the cache grows by
a segment. Programs depend on the stage, the number of rows and the settings
below, and on nothing else of a request: another prompt, seed or length compiles
nothing. Each row has its own keys and meets no other, so its codes do not
depend on which rows it is decoded with.

Guidance decodes each row twice, with and without its condition, as one batch:
weights are read once for both.

Shapes: batch = requests; rows = batch, or twice that under guidance; length =
positions of a row; capacity = positions that caches have room for.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from musiclm_jax.checkpoints.bundle import Bundle
from musiclm_jax.inference import sampling
from musiclm_jax.layers import cache as caches_lib
from musiclm_jax.stages import lm

_Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig:
  """How a stage is decoded; all of it is compiled in.

  Attributes:
    sampler: Logits to codes.
    guidance_scale: How far to go away from the unconditional logits; None for
      one pass without guidance.
    segment_length: Positions by which the cache grows. Shorter segments read
      less of it for nothing, and compile more programs.
  """

  sampler: sampling.Sampler = sampling.Categorical()
  guidance_scale: float | None = None
  segment_length: int = 256

  def __post_init__(self):
    if self.segment_length < 1:
      raise ValueError(f'segment_length is {self.segment_length}, not above 0.')


@flax.struct.dataclass
class _State:
  """What the loop carries.

  Attributes:
    tokens: Whole rows, PAD where nothing has been made yet, [rows, length].
    caches: Of the positions before `position`.
    position: The last one whose token is known.
    keys: One a request.
  """

  tokens: Any
  caches: Any
  position: Any
  keys: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageDecoder:
  """A stage's model, ready to decode.

  Attributes:
    config: With separate layers, as `stages.lm.to_decode` makes it.
    params: Its parameters, wherever they lie: over a mesh, call `decode` inside
      it.
    decoding: How.
  """

  config: lm.StageLMConfig
  params: Any
  decoding: DecodingConfig = DecodingConfig()

  @classmethod
  def of_bundle(
    cls,
    bundle: Bundle,
    *,
    decoding: DecodingConfig = DecodingConfig(),  # noqa: B008
    dtype: str | None = None,
  ) -> StageDecoder:
    """Of a published stage, in `dtype` or as it was trained."""
    config, params = lm.to_decode(
      bundle.config, bundle.weights['params'], dtype=dtype
    )
    # Once: NumPy arrays would be copied to the device at every call. Not by
    # `jnp.asarray`, which compiles a program for each shape.
    return cls(
      config=config,
      params=jax.device_put(params),
      decoding=decoding,
    )

  def decode(
    self,
    tokens: Int[np.ndarray, 'batch length'],
    *,
    keys: Key[Array, ' batch'],
    unconditional: Int[np.ndarray, 'batch length'] | None = None,
    num_frames: int | None = None,
    num_prefilled_frames: int = 0,
    progress: _Progress | None = None,
  ) -> Int[np.ndarray, 'batch length']:
    """Makes the output's codes that are not given.

    Args:
      tokens: From `StageLayout.pack_prompt`: PAD where a code is to be made;
        any code of the output that is not PAD is kept.
      keys: One a row. A code is drawn from its row's key and its position.
      unconditional: The same rows with their condition dropped; wanted if and
        only if there is guidance.
      num_frames: Frames of the output to make, the given ones included; all if
        left out. The others stay PAD.
      num_prefilled_frames: Frames of the output, from the first on, that are
        given in every row and may be read with the prompt in one pass.
      progress: Called as (positions made, positions to make) now and then.

    Returns:
      Whole rows.
    """
    layout = self.config.layout
    num_frames = layout.output.num_frames if num_frames is None else num_frames
    self._check(tokens, unconditional, num_frames, num_prefilled_frames)
    levels, start = layout.output.take.count, layout.output.start
    stop = start + num_frames * levels
    first = start - 1 + num_prefilled_frames * levels
    rows = np.asarray(tokens)
    if unconditional is not None:
      rows = np.concatenate([rows, unconditional])
    state = _prefill(
      self.params, rows, keys, config=self.config, num_positions=first
    )
    for capacity in self._capacities(first):
      state = state.replace(caches=_grow(state.caches, capacity=capacity))
      state = _run_segment(
        self.params,
        state,
        np.int32(stop),
        config=self.config,
        decoding=self.decoding,
      )
      done = min(capacity + 1, stop)
      if progress is not None:
        progress(done - start, stop - start)
      if done == stop:
        break
    return np.asarray(state.tokens)[: len(tokens)]

  def _capacities(self, first: int) -> Iterator[int]:
    """Of the cache in each segment; the last token's is never needed."""
    last = self.config.layout.output.stop - 1
    segment = self.decoding.segment_length
    for capacity in itertools.count((first // segment + 1) * segment, segment):
      yield min(capacity, last)
      if capacity >= last:
        return

  def _check(
    self,
    tokens: Int[np.ndarray, 'batch length'],
    unconditional: Int[np.ndarray, 'batch length'] | None,
    num_frames: int,
    num_prefilled_frames: int,
  ) -> None:
    layout, output = self.config.layout, self.config.layout.output
    name = layout.spec.name
    is_guided = self.decoding.guidance_scale is not None
    if is_guided != (unconditional is not None):
      raise ValueError(
        f'Stage {name!r} is decoded {"with" if is_guided else "without"}'
        f' guidance, but {"no" if is_guided else "unasked"} unconditional rows'
        ' came; pass them if and only if guidance_scale is set.'
      )
    for rows in (tokens, unconditional):
      if rows is not None and rows.shape != (len(tokens), layout.length):
        raise ValueError(
          f'Stage {name!r} decodes rows of {layout.length} positions; got'
          f' {list(rows.shape)}. Make them with `StageLayout.pack_prompt`.'
        )
    if not 0 <= num_prefilled_frames < num_frames <= output.num_frames:
      raise ValueError(
        f'Stage {name!r} makes 1 to {output.num_frames} frames, of which fewer'
        f' are prefilled; {num_frames} are wanted, {num_prefilled_frames} of'
        ' them prefilled.'
      )
    stop = output.start + num_prefilled_frames * output.take.count
    if np.any(np.asarray(tokens)[:, output.start : stop] == layout.pad_id):
      raise ValueError(
        f'Stage {name!r} is to prefill {num_prefilled_frames} frames, but in'
        ' some row they are not all given.'
      )


def decode_rows(
  params: Any,
  tokens: Int[Array, 'batch length'],
  *,
  keys: Key[Array, ' batch'],
  config: lm.StageLMConfig,
  sampler: sampling.Sampler,
) -> Int[Array, 'batch length']:
  """`StageDecoder.decode` as one traceable function, for programs of others.

  Its cache has all positions from the start, so it reads more than it must.
  """
  output = config.layout.output
  state = _prefill(
    params, tokens, keys, config=config, num_positions=output.start - 1
  )
  state = state.replace(caches=_grow(state.caches, capacity=output.stop - 1))
  return _run_segment(
    params,
    state,
    jnp.asarray(output.stop),
    config=config,
    decoding=DecodingConfig(sampler=sampler),
  ).tokens


def request_keys(seeds: Int[np.ndarray, ' batch']) -> Key[Array, ' batch']:
  """One key a request, a function of its seed alone."""
  return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


@functools.partial(jax.jit, static_argnames=('config', 'num_positions'))
def _prefill(
  params: Any,
  tokens: Int[Array, 'rows length'],
  keys: Key[Array, ' batch'],
  *,
  config: lm.StageLMConfig,
  num_positions: int,
) -> _State:
  """Reads the first `num_positions` in one pass."""
  tokens = jnp.asarray(tokens, jnp.int32)
  return _State(
    tokens=tokens,
    caches=lm.StageLM(config).apply(
      {'params': params},
      tokens[:, :num_positions],
      method=lm.StageLM.prefill,
    ),
    position=jnp.asarray(num_positions, jnp.int32),
    keys=keys,
  )


_grow = jax.jit(caches_lib.grow, static_argnames='capacity')


@functools.partial(
  jax.jit, static_argnames=('config', 'decoding'), donate_argnames='state'
)
def _run_segment(
  params: Any,
  state: _State,
  stop: Int[Array, ''],
  *,
  config: lm.StageLMConfig,
  decoding: DecodingConfig,
) -> _State:
  """Makes positions until the caches are full or `stop` is reached."""
  model, layout = lm.StageLM(config), config.layout
  capacity = state.caches[0].capacity

  def is_wanted(state: _State) -> jax.Array:
    return (state.position < capacity) & (state.position + 1 < stop)

  def make_one(state: _State) -> _State:
    prediction = model.apply(
      {'params': params},
      _column(state.tokens, state.position),
      caches=state.caches,
      valid_mask=layout.valid_mask(state.tokens[:, :capacity]),
      position=state.position,
      method=lm.StageLM.step,
    )
    after = state.position + 1
    first_id, _ = layout.legal_ids(after)
    repeated = None
    if layout.output.take.distinct_share is not None:
      # Of the separator before the first code it is no code.
      repeated = _column(state.tokens, state.position) - first_id
    codes = _sample(
      prediction.logits,
      state.keys,
      after,
      decoding=decoding,
      repeated=repeated,
    )
    if decoding.guidance_scale is not None:
      codes = jnp.concatenate([codes, codes])
    given = _column(state.tokens, after)
    made = jnp.where(given == layout.pad_id, codes + first_id, given)
    return state.replace(
      tokens=jax.lax.dynamic_update_slice_in_dim(
        state.tokens, made[:, None], after, axis=1
      ),
      caches=prediction.caches,
      position=after,
    )

  return jax.lax.while_loop(is_wanted, make_one, state)


def _sample(
  logits: jax.Array,
  keys: jax.Array,
  position: jax.Array,
  *,
  decoding: DecodingConfig,
  repeated: Int[Array, ' rows'] | None,
) -> Int[Array, ' batch']:
  """A code for each request, its key folded with the position.

  None of those in `repeated`, where a stage makes no code twice in a row.
  """
  if decoding.guidance_scale is not None:
    conditional, unconditional = jnp.split(logits, 2)
    logits = sampling.guided(
      conditional, unconditional, scale=decoding.guidance_scale
    )
  if repeated is not None:
    is_repeat = jnp.arange(logits.shape[1])[None] == repeated[: len(keys), None]
    logits = jnp.where(is_repeat, -jnp.inf, logits)
  keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
  return decoding.sampler(logits, keys)


def _column(tokens: jax.Array, position: jax.Array) -> Int[Array, ' rows']:
  return jax.lax.dynamic_index_in_dim(tokens, position, axis=1, keepdims=False)
