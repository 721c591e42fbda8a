# SPDX-License-Identifier: Apache-2.0
"""The row of ids of a stage: where codes become tokens.

    [BOS] [SEP 0] codes of input 0 … [SEP k] codes of the output [PAD]

Codes are interleaved frame by frame, all levels of frame 0 first, and every
(stream, level) owns its own range of ids: AudioLM (Borsos et al., 2022),
section III-C. After the codes come BOS, NULL (over an input that was dropped),
PAD (nothing there, or not yet made) and a separator a segment.

Shapes: tokens [batch, length], codes [batch, frames, levels], all int64.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from .configuration import Config

NO_CODE = -1  # what `unpack` gives where a position holds no code


@dataclasses.dataclass(frozen=True)
class TokenStream:
  """Codes of one kind.

  Attributes:
    name: 'acoustic', 'semantic', 'mulan'.
    rate_hz: Frames a second; None for one frame, however long the clip.
    num_codebooks: Levels of a frame.
    codebook_size: Codes of a level.
    fingerprint: Of the weights that make the codes.
  """

  name: str
  rate_hz: fractions.Fraction | None
  num_codebooks: int
  codebook_size: int
  fingerprint: str | None

  @classmethod
  def of(cls, config: Config) -> TokenStream:
    return cls(**vars(config))

  def num_frames(self, seconds: fractions.Fraction) -> int:
    """Frames in `seconds`, which hold a whole number."""
    return 1 if self.rate_hz is None else int(seconds * self.rate_hz)


@dataclasses.dataclass(frozen=True)
class Segment:
  """The place of some levels of a stream in the row and in the vocabulary.

  Attributes:
    stream: Whose codes.
    levels: Which of them, as numbered in the stream.
    num_frames: Frames in one window.
    start: Position of its first code; its separator stands just before.
    first_ids: The id of code 0, one for each level.
  """

  stream: TokenStream
  levels: range
  num_frames: int
  start: int
  first_ids: tuple[int, ...]

  @property
  def stop(self) -> int:
    """One past the position of its last code."""
    return self.start + self.num_frames * len(self.levels)


class StageLayout:
  """Ids and positions of the rows of a stage.

  Attributes:
    name: Of the stage.
    window_seconds: What a row covers.
    segments: One for each input, in order, and the output last.
    vocabulary_size: Ids of codes; the others come after.
  """

  def __init__(self, spec: Config):
    self.name = spec.name
    self.window_seconds: fractions.Fraction = spec.window_seconds
    first_ids: dict[tuple[str, int], int] = {}
    segments, next_id, position = [], 0, 1
    for take in (*spec.inputs, spec.output):
      stream = TokenStream.of(take.stream)
      levels = range(take.first, take.first + take.count)
      for level in levels:
        if (stream.name, level) not in first_ids:
          first_ids[stream.name, level] = next_id
          next_id += stream.codebook_size
      segment = Segment(
        stream=stream,
        levels=levels,
        num_frames=stream.num_frames(self.window_seconds),
        start=position + 1,
        first_ids=tuple(first_ids[stream.name, level] for level in levels),
      )
      segments.append(segment)
      position = segment.stop
    self.segments = tuple(segments)
    self.vocabulary_size = next_id

  @property
  def inputs(self) -> tuple[Segment, ...]:
    return self.segments[:-1]

  @property
  def output(self) -> Segment:
    return self.segments[-1]

  @property
  def num_ids(self) -> int:
    """Codes, BOS, NULL, PAD and separators: the rows of an input table."""
    return self.vocabulary_size + 3 + len(self.segments)

  @property
  def bos_id(self) -> int:
    return self.vocabulary_size

  @property
  def null_id(self) -> int:
    return self.vocabulary_size + 1

  @property
  def pad_id(self) -> int:
    return self.vocabulary_size + 2

  @property
  def length(self) -> int:
    """Positions of a row, padded to an even number."""
    return self.output.stop + self.output.stop % 2

  @functools.cached_property
  def streams(self) -> dict[str, TokenStream]:
    """Every stream that the stage reads or makes, by name."""
    return {s.stream.name: s.stream for s in self.segments}

  @functools.cached_property
  def segment_index(self) -> Tensor:
    """The segment of each position, [length]; separators open theirs.

    -1 at BOS and at the last padding.
    """
    owners = torch.full((self.length,), -1)
    for index, segment in enumerate(self.segments):
      owners[segment.start - 1 : segment.stop] = index
    return owners

  @functools.cached_property
  def times(self) -> Tensor:
    """When the frame at each position begins, [length], in whole ticks.

    A tick is a frame of the fastest stream; a separator is of its segment's
    first frame. -1 where there is no time.
    """
    rates = [segment.stream.rate_hz for segment in self.segments]
    fastest = max((rate for rate in rates if rate is not None), default=None)
    times = torch.full((self.length,), -1)
    for segment, rate in zip(self.segments, rates, strict=True):
      if rate is not None:
        ticks = fastest / rate
        frames = torch.arange(segment.num_frames) * ticks.numerator
        frames = frames.div(ticks.denominator, rounding_mode='floor')
        codes = frames.repeat_interleave(len(segment.levels))
        times[segment.start - 1] = 0
        times[segment.start : segment.stop] = codes
    return times

  def valid_mask(self, tokens: Tensor) -> Tensor:
    """True where there is something to attend to."""
    return tokens != self.pad_id

  def pack_prompt(
    self, codes: Mapping[str, Tensor], *, given: Tensor | None = None
  ) -> Tensor:
    """Makes rows to decode: what is still to be made is PAD.

    Args:
      codes: Of each stream, from level 0 on and at least up to the last that is
        taken; the output's are read only where `given`.
      given: True at the output's codes that are forced, [batch or 1, frames,
        levels or 1]; none if left out.
    """
    parts = [self._tokens(segment, codes) for segment in self.inputs]
    if given is None:
      size = self.output.stop - self.output.start
      parts.append(parts[0].new_full((len(parts[0]), size), self.pad_id))
    else:
      parts.append(self._tokens(self.output, codes, given))
    columns = [self._column(parts[0], self.bos_id)]
    for index, part in enumerate(parts):
      columns += [self._column(part, self.pad_id + 1 + index), part]
    if self.length > self.output.stop:
      columns.append(self._column(parts[0], self.pad_id))
    return torch.cat(columns, dim=1)

  def unpack(self, tokens: Tensor) -> Tensor:
    """The codes of the output; `NO_CODE` where the token is none."""
    output = self.output
    codes = tokens[:, output.start : output.stop].unflatten(
      1, (output.num_frames, len(output.levels))
    ) - tokens.new_tensor(output.first_ids)
    legal = (codes >= 0) & (codes < output.stream.codebook_size)
    return codes.where(legal, NO_CODE)

  def drop_inputs(self, tokens: Tensor, *, streams: Collection[str]) -> Tensor:
    """Puts NULL over the inputs from `streams`, in all rows."""
    tokens = tokens.clone()
    for segment in self.inputs:
      if segment.stream.name in streams:
        tokens[:, segment.start : segment.stop] = self.null_id
    return tokens

  def _tokens(
    self,
    segment: Segment,
    codes: Mapping[str, Tensor],
    given: Tensor | None = None,
  ) -> Tensor:
    """The tokens of one segment, PAD where they are not given."""
    taken = codes[segment.stream.name][:, :, segment.levels.start :]
    taken = taken[:, :, : len(segment.levels)].long()
    wanted = segment.num_frames, len(segment.levels)
    if taken.shape[1:] != wanted:
      raise ValueError(
        f'Stage {self.name!r} takes {wanted[0]} frames of'
        f' {segment.stream.name!r} with {segment.levels.stop} levels; got'
        f' {list(codes[segment.stream.name].shape)}. Cut the codes to one'
        ' window, from level 0 on.'
      )
    tokens = taken + taken.new_tensor(segment.first_ids)
    if given is not None:
      tokens = tokens.where(given, self.pad_id)
    return tokens.flatten(1)

  def _column(self, part: Tensor, token: int) -> Tensor:
    return part.new_full((len(part), 1), token)
