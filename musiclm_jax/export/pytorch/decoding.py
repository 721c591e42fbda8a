# SPDX-License-Identifier: Apache-2.0
"""The decoder of every stage: rows with room in, whole rows out.

The prompt is read in one pass, then one position of all rows is made at a time.
The cache is made once and read up to a capacity that grows by a segment, so
that few sizes are compiled under `torch.compile`. Nothing waits for the device.

Rows are decoded in groups of one size, the next of 1, 2, 3, 4, 6, 8, 12, 16:
few sizes again, and a row's digits do not depend on its place. What is missing
is filled up with copies of a row. Each row has its own key and meets no other,
so neither mates nor slot nor group matter to its draws. Guidance decodes each
row twice, with and without its condition.

Shapes: tokens [rows, length]; keys [rows, 2].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch
from torch import Tensor

from . import sampling, threefry
from .stage import StageLM

# Caches grow three times at most, by 128 positions at least.
_NUM_SEGMENTS = 4
_SHORTEST_SEGMENT = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageDecoder:
  """A stage, ready to decode.

  Attributes:
    model: The stage.
    index: Its place in the cascade, so that stages do not draw alike.
    sampler: Logits to codes.
    guidance: How far to go away from the unconditional logits; None for one
      pass without guidance.
    dropped: Streams that guidance goes away from.
    max_rows: Rows of one group, twice as many under guidance.
  """

  model: StageLM
  index: int
  sampler: sampling.Sampler
  guidance: float | None
  dropped: Collection[str]
  max_rows: int

  def decode(
    self,
    tokens: Tensor,
    *,
    seeds: Tensor,
    places: Tensor,
    num_frames: int | None = None,
    num_prefilled_frames: int = 0,
  ) -> Tensor:
    """Makes the output's codes that are not given.

    Args:
      tokens: From `StageLayout.pack_prompt`: PAD where a code is to be made.
      seeds: Of each row's request, [rows].
      places: Where each row's window begins in its piece, [rows].
      num_frames: Frames of the output to make, the given ones included; all if
        left out. The others stay PAD.
      num_prefilled_frames: Frames of the output, from the first on, that are
        given in every row and are read with the prompt.
    """
    output = self.model.layout.output
    num_frames = output.num_frames if num_frames is None else num_frames
    keys = threefry.fold_in(
      threefry.keys_of(seeds), torch.full_like(seeds, self.index)
    )
    keys = threefry.fold_in(keys, places)
    levels = len(output.levels)
    stop = output.start + num_frames * levels
    first = output.start - 1 + num_prefilled_frames * levels
    num_groups = -(-len(tokens) // self.max_rows)
    size = bucket(-(-len(tokens) // num_groups))
    made = []
    for group in torch.arange(len(tokens)).tensor_split(num_groups):
      missing = size - len(group)
      rows = torch.cat([group, group[:1].repeat(missing)]).to(tokens.device)
      whole = self._decode(tokens[rows], keys[rows], first=first, stop=stop)
      made.append(whole[: len(group)])
    return torch.cat(made)

  def _decode(
    self, tokens: Tensor, keys: Tensor, *, first: int, stop: int
  ) -> Tensor:
    """Positions after `first`, before `stop`."""
    rows = tokens
    if self.guidance is not None:
      dropped = self.model.layout.drop_inputs(tokens, streams=self.dropped)
      rows = torch.cat([tokens, dropped])
    length = self.model.layout.length
    segment = -(-length // (_NUM_SEGMENTS * _SHORTEST_SEGMENT))
    segment *= _SHORTEST_SEGMENT
    last = stop - 1
    # Up to a multiple of the segment, whatever the request's own end is.
    room = min(-(-last // segment) * segment, length)
    cache = self.model.new_cache(len(rows), capacity=room)
    self.model.prefill(rows[:, :first], cache=cache)
    tokens = rows.clone()
    # All at once: 240 operations, of however many keys.
    places = torch.arange(first + 1, stop, device=tokens.device)
    step_keys = threefry.fold_in(keys[:, None], places)  # [rows, steps, 2]
    # One tensor that counts: a new one at each step would be a copy to the
    # device, and a number a constant of the compiled step.
    position = torch.full((1,), first, device=tokens.device)
    for now in range(first, last):
      capacity = min((now // segment + 1) * segment, room)
      logits = self.model.step(
        tokens[:, now],
        cache=cache.narrow(4, 0, capacity),
        position=position,
      )
      position += 1
      self._write(tokens, logits, step_keys[:, now - first], now=now + 1)
    return tokens[: len(keys)]

  def _write(
    self, tokens: Tensor, logits: Tensor, keys: Tensor, *, now: int
  ) -> None:
    """Draws what stands at `now`, unless it is given."""
    layout = self.model.layout
    if self.guidance is not None:
      logits = sampling.guided(*logits.chunk(2), scale=self.guidance)
    codes = self.sampler(logits, keys)
    if self.guidance is not None:
      codes = torch.cat([codes, codes])
    output = layout.output
    level = (now - output.start) % len(output.levels)
    given = tokens[:, now]
    made = codes + output.first_ids[level]
    tokens[:, now] = torch.where(given == layout.pad_id, made, given)


def bucket(num_rows: int) -> int:
  """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, … that holds `num_rows`."""
  size = 1
  while size < num_rows:
    if size >= 2 and size * 3 // 2 >= num_rows:
      return size * 3 // 2
    size *= 2
  return size
