# SPDX-License-Identifier: Apache-2.0
"""What tells the times of a row's segments apart: a relative bias between them.

A row of a stage holds its inputs before its output, so the codes of one moment
stand far apart, and farther with every frame: T5's bias, which tells nothing
beyond its largest distance, cannot find them. Within a segment the bias stays
T5's, of distances in positions; between segments it is one of differences in
time, in T5's two-directional buckets. Ours; the papers have T5's bias alone.

Shapes: length = positions of a row, lags = ticks from a key to its query, from
the most negative on, and last the one place of what has no time. A tick is the
shortest frame of the row.
"""

from __future__ import annotations

import dataclasses
import fractions
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from musiclm_jax.layers import embedding

_NO_SPAN = -1
# What such heads start with: more than a thousand codes of their own segment
# weigh, and about as much.
_MOMENT = 8.0
_NO_TIME = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
  """One segment of a row: its separator, then its frames.

  Attributes:
    start: Position of its first code; its separator stands just before.
    num_frames: Frames.
    count: Codes of a frame.
    frame_ticks: How long a frame is; None where frames have no time.
  """

  start: int
  num_frames: int
  count: int
  frame_ticks: fractions.Fraction | None

  @property
  def stop(self) -> int:
    """One past the position of its last code."""
    return self.start + self.num_frames * self.count

  @property
  def positions(self) -> slice:
    """Its separator and its codes."""
    return slice(self.start - 1, self.stop)

  @property
  def frame_times(self) -> Int[np.ndarray, ' frames']:
    """The tick in which each frame begins."""
    ticks = fractions.Fraction(self.frame_ticks or 0)
    frames = np.arange(self.num_frames)
    return frames * ticks.numerator // ticks.denominator


class TimeBias(nn.Module):
  """One learned bias a head and bucket of differences in time.

  Attributes:
    num_heads: Attention heads.
    num_buckets: Of either direction.
    max_distance: In ticks; from here on all lags share the last bucket.
    param_dtype: Stored type.
  """

  num_heads: int
  num_buckets: int = 32
  max_distance: int = 128
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, max_lag: int) -> Float[Array, 'heads lags']:
    """The biases of lags from -`max_lag` to `max_lag`, at least float32."""
    table = embedding.bias_table(
      self, _looks_at_its_moment, num_buckets=2 * self.num_buckets
    )
    buckets = embedding.distance_buckets(
      max_lag + 1, num_buckets=self.num_buckets, max_distance=self.max_distance
    )
    # Lag 0 is told once, so the place of its second bucket is free: it is the
    # one of what has no time.
    ahead = self.num_buckets + buckets[:0:-1]
    return jnp.take(
      table, np.concatenate([ahead, buckets, [self.num_buckets]]), axis=1
    )


def _looks_at_its_moment(
  key: jax.Array, shape: tuple[int, int], dtype: Any
) -> Float[Array, 'heads buckets']:
  """Of every four heads one starts at the moment, one at what has no time.

  Ours. Neither this nor a random start suffices where a stage's tables begin at
  random (docs/demo_model.md).
  """
  del key
  num_heads, num_buckets = shape[0], shape[1] // 2
  nearness = np.maximum(_MOMENT - 2.0 * np.arange(num_buckets), 0)
  table = np.zeros((num_heads, 2 * num_buckets))
  table[1::4] = np.concatenate([nearness, nearness])
  table[:, num_buckets] = 0  # The bucket of what has no time.
  table[3::4, num_buckets] = _NO_TIME
  return jnp.asarray(table, dtype)


def max_lag(spans: tuple[Span, ...]) -> int:
  """The largest difference in time within a row."""
  return max(int(span.frame_times[-1]) for span in spans)


def align_matrix(
  bias: Float[Array, '1 heads length length'],
  by_lag: Float[Array, 'heads lags'],
  *,
  spans: tuple[Span, ...],
) -> Float[Array, '1 heads length length']:
  """`bias` of [query, key] with that of times where a key's segment is earlier.

  It may be of the first positions of a row alone, as of a prompt. Times are
  looked up frame by frame and repeated over the codes of a frame: the gradient
  of a look-up of every position would be a slow scatter.
  """
  for key, query in itertools.combinations(spans, 2):
    num_queries = bias.shape[2] - query.positions.start
    if num_queries <= 0:
      continue
    shape = (bias.shape[1], query.num_frames, key.num_frames)
    if query.frame_ticks is None or key.frame_ticks is None:
      block = jnp.broadcast_to(by_lag[:, -1, None, None], shape)
    else:
      lags = query.frame_times[:, None] - key.frame_times[None]
      block = jnp.take(by_lag, lags + _middle(by_lag), axis=1)
    block = _of_positions(block, count=query.count, axis=1)[:, :num_queries]
    block = _of_positions(block, count=key.count, axis=2)
    bias = bias.at[0, :, query.positions, key.positions].set(block)
  return bias


def align_row(
  bias: Float[Array, 'heads capacity'],
  by_lag: Float[Array, 'heads lags'],
  *,
  spans: tuple[Span, ...],
  position: Int[Array, ''],
) -> Float[Array, 'heads capacity']:
  """`bias` of one query at `position`, with that of times as `align_matrix`."""
  length = max(spans[-1].stop, bias.shape[1])
  owners, times = (jnp.asarray(table) for table in _tables(spans, length))
  owner, time = owners[position], times[position]
  owners, times = owners[: bias.shape[1]], times[: bias.shape[1]]
  lags = jnp.where((time < 0) | (times < 0), _middle(by_lag) + 1, time - times)
  by_time = jnp.take(by_lag, lags + _middle(by_lag), axis=1, mode='clip')
  is_between = (owner != owners) & (owner != _NO_SPAN) & (owners != _NO_SPAN)
  return jnp.where(is_between, by_time, bias)


def _middle(by_lag: Float[Array, 'heads lags']) -> int:
  """Where lag 0 stands."""
  return by_lag.shape[1] // 2 - 1


def _of_positions(
  frames: Float[Array, 'heads _ _'], *, count: int, axis: int
) -> Float[Array, 'heads _ _']:
  """From frames to the positions of a span, whose separator is of frame 0."""
  separator = jax.lax.slice_in_dim(frames, 0, 1, axis=axis)
  codes = jnp.repeat(frames, count, axis=axis)
  return jnp.concatenate([separator, codes], axis=axis)


def _tables(
  spans: tuple[Span, ...], length: int
) -> tuple[Int[np.ndarray, ' length'], Int[np.ndarray, ' length']]:
  """The span of each position and its time, -1 where there is none."""
  owners = np.full(length, _NO_SPAN, np.int32)
  times = np.full(length, -1, np.int32)
  for index, span in enumerate(spans):
    owners[span.positions] = index
    if span.frame_ticks is not None:
      codes = np.repeat(span.frame_times, span.count)
      times[span.positions] = np.concatenate([codes[:1], codes])
  return owners, times
