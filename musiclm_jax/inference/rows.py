# SPDX-License-Identifier: Apache-2.0
"""Any number of rows through a decoder that is compiled for few numbers.

Rows are decoded in groups, and a group is filled up to the next bucket with a
copy of its first row, so that a request of another length or of other mates
meets a compiled program. Each row's draws are keyed by its request's seed, its
stage and its place in the piece: neither mates nor slot nor group matter.

Shapes: rows = windows to decode, length = positions of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import jax
import numpy as np
from jaxtyping import Int, Key, UInt

from musiclm_jax.inference.decoding import StageDecoder

Progress = Callable[[float], None]


def bucket(num_rows: int) -> int:
  """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, … that holds `num_rows`.

  At most a third of the rows is wasted, and there are few programs.
  """
  size = 1
  while size < num_rows:
    if size >= 2 and size * 3 // 2 >= num_rows:
      return size * 3 // 2
    size *= 2
  return size


def decode(
  decoder: StageDecoder,
  tokens: Int[np.ndarray, 'rows length'],
  *,
  seeds: UInt[np.ndarray, ' rows'],
  places: UInt[np.ndarray, ' rows'],
  stage_index: int,
  dropped_streams: Collection[str],
  max_rows: int,
  num_frames: int | None = None,
  num_prefilled_frames: int = 0,
  progress: Progress | None = None,
) -> Int[np.ndarray, 'rows length']:
  """Whole rows, as `StageDecoder.decode` makes them.

  Args:
    decoder: The stage.
    tokens: Rows with room in.
    seeds: Of each row's request.
    places: Where each row's window begins in its piece.
    stage_index: So that stages do not draw alike.
    dropped_streams: What guidance goes away from.
    max_rows: Of one group; bounds the memory of the caches.
    num_frames: As for `StageDecoder.decode`.
    num_prefilled_frames: As for `StageDecoder.decode`.
    progress: Told the share that is done.
  """
  num_groups = -(-len(tokens) // max_rows)
  groups = np.array_split(np.arange(len(tokens)), num_groups)
  made = []
  for number, group in enumerate(groups):
    missing = bucket(len(group)) - len(group)
    rows = np.concatenate([group, np.repeat(group[:1], missing)])
    unconditional = None
    if decoder.decoding.guidance_scale is not None:
      unconditional = decoder.config.layout.drop_inputs(
        tokens[rows],
        streams=dropped_streams,
        dropped=np.ones(len(rows), bool),
      )
    whole = decoder.decode(
      tokens[rows],
      keys=_keys(seeds[rows], places[rows], np.uint32(stage_index)),
      unconditional=unconditional,
      num_frames=num_frames,
      num_prefilled_frames=num_prefilled_frames,
      progress=_share(progress, number, num_groups),
    )
    made.append(whole[: len(group)])
  return np.concatenate(made)


@jax.jit
def _keys(
  seeds: UInt[jax.Array, ' rows'],
  places: UInt[jax.Array, ' rows'],
  stage_index: UInt[jax.Array, ''],
) -> Key[jax.Array, ' rows']:
  def key(seed: jax.Array, place: jax.Array) -> jax.Array:
    of_stage = jax.random.fold_in(jax.random.key(seed), stage_index)
    return jax.random.fold_in(of_stage, place)

  return jax.vmap(key)(seeds, places)


def _share(
  progress: Progress | None, number: int, num_groups: int
) -> Callable[[int, int], None] | None:
  """Positions of one group as a share of all."""
  if progress is None:
    return None
  return lambda done, total: progress((number + done / total) / num_groups)
