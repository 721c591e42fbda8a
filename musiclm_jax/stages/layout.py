# SPDX-License-Identifier: Apache-2.0
"""The row of ids of a stage: the one place where codes become tokens.

    [BOS] [SEP 0] codes of input 0 … [SEP k] codes of the output [PAD]

Codes are interleaved frame by frame, all levels of frame 0 first, and every
(stream, level) owns its own range of ids: AudioLM (Borsos et al., 2022),
section III-C. Special ids, one separator a segment and the padding to an even
length are ours. Where a take says so, runs of one code are one code, and what is
left of its frames is padding (`deduplication`). Training, decoding, export and
evaluation all read this module, so they cannot disagree. Tables are NumPy, made
once; `pack` and `unpack` take NumPy or JAX arrays, and nothing here imports JAX.

Shapes: batch = rows, length = positions of a row, frames and levels = those of
one segment (levels counted from the first that the segment takes).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from musiclm_jax.stages import deduplication
from musiclm_jax.stages.spec import StageSpec, Take

# Any array library with NumPy's interface, tracers included.
Array = Any

NO_CODE = -1  # what `unpack` gives where a position holds no code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
  """The place of one take in the row and in the vocabulary.

  Attributes:
    take: The levels of the stream that it holds.
    num_frames: Frames in one window; with repeats removed, the most runs.
    start: Position of its first code; its separator stands just before.
    separator_id: Id of that separator.
    first_ids: The id of code 0, one for each level that is taken.
  """

  take: Take
  num_frames: int
  start: int
  separator_id: int
  first_ids: tuple[int, ...]

  @property
  def stop(self) -> int:
    """One past the position of its last code."""
    return self.start + self.num_frames * self.take.count

  @property
  def positions(self) -> slice:
    """Where its codes stand in the row."""
    return slice(self.start, self.stop)


@dataclasses.dataclass(frozen=True)
class StageLayout:
  """Ids, positions and masks of the rows of a stage.

  An id means "code c of level q of stream X". A level that is both an input and
  the output has one range of ids for both: a code sounds the same given or
  made, and the separator before it says which it is. Ids do not depend on the
  window, so a model reads rows of another window than it was trained on.

  Two ids may stand where a code is expected, and are never sampled: `null_id`
  over an input that was dropped (classifier-free guidance) and `pad_id` over
  frames that a short clip lacks or that are still to be decoded.

  Attributes:
    spec: The stage.
  """

  spec: StageSpec

  @functools.cached_property
  def first_ids(self) -> dict[tuple[str, int], int]:
    """The id of code 0 of every (stream name, level), in order of the row."""
    first_ids, next_id = {}, 0
    for take in self.spec.takes:
      for level in take.levels:
        if (take.stream.name, level) not in first_ids:
          first_ids[take.stream.name, level] = next_id
          next_id += take.stream.codebook_size
    return first_ids

  @functools.cached_property
  def vocabulary_size(self) -> int:
    """Ids of codes. This is the paper's count; special ids come after."""
    streams = self.spec.streams
    return sum(streams[name].codebook_size for name, _ in self.first_ids)

  @property
  def num_special_ids(self) -> int:
    """BOS, NULL, PAD and one separator a segment."""
    return 3 + len(self.spec.takes)

  @property
  def num_ids(self) -> int:
    """Codes and special ids: the rows of an input table."""
    return self.vocabulary_size + self.num_special_ids

  @property
  def bos_id(self) -> int:
    """Opens every row."""
    return self.vocabulary_size

  @property
  def null_id(self) -> int:
    """Stands over an input that was dropped."""
    return self.vocabulary_size + 1

  @property
  def pad_id(self) -> int:
    """Stands where there is nothing to attend to."""
    return self.vocabulary_size + 2

  @functools.cached_property
  def segments(self) -> tuple[Segment, ...]:
    """One for each input, in order, and the output last."""
    segments, position = [], 1
    for index, take in enumerate(self.spec.takes):
      segment = Segment(
        take=take,
        num_frames=self.spec.num_frames(take),
        start=position + 1,
        separator_id=self.vocabulary_size + 3 + index,
        first_ids=tuple(
          self.first_ids[take.stream.name, level] for level in take.levels
        ),
      )
      segments.append(segment)
      position = segment.stop
    return tuple(segments)

  @property
  def output(self) -> Segment:
    """The segment that the stage makes; `output.start` ids precede it."""
    return self.segments[-1]

  @property
  def length(self) -> int:
    """Positions of a row, padded to an even number."""
    return self.output.stop + self.output.stop % 2

  @functools.cached_property
  def segment_index(self) -> Int[np.ndarray, ' length']:
    """The segment whose code stands at each position; -1 at special ids."""
    return self._table(lambda index, _: index)

  @functools.cached_property
  def frame_index(self) -> Int[np.ndarray, ' length']:
    """The frame of the code at each position; -1 at special ids."""
    return self._table(
      lambda _, segment: np.repeat(
        np.arange(segment.num_frames), segment.take.count
      )
    )

  @functools.cached_property
  def level_index(self) -> Int[np.ndarray, ' length']:
    """The level, as numbered in the stream, of the code at each position."""
    return self._table(
      lambda _, segment: np.tile(segment.take.levels, segment.num_frames)
    )

  @functools.cached_property
  def legal_start(self) -> Int[np.ndarray, ' length']:
    """The first id that is legal at each position."""
    table = self._table(
      lambda _, segment: np.tile(segment.first_ids, segment.num_frames)
    )
    table[:] = np.where(table < 0, self.pad_id, table)
    table[0] = self.bos_id
    for segment in self.segments:
      table[segment.start - 1] = segment.separator_id
    return table

  @functools.cached_property
  def legal_stop(self) -> Int[np.ndarray, ' length']:
    """One past the last id that is legal at each position."""
    sizes = self._table(lambda _, segment: segment.take.stream.codebook_size)
    return self.legal_start + np.where(sizes < 0, 1, sizes)

  @functools.cached_property
  def output_mask(self) -> Bool[np.ndarray, ' length']:
    """True at the codes of the output."""
    return self.segment_index == len(self.segments) - 1

  def legal_ids(self, position: int | Array) -> tuple[Array, Array]:
    """The range (start, stop) of ids that are legal at `position`.

    Args:
      position: One or several positions; may be traced. All positions of the
        output have ranges of one width, the output's codebook size, so that a
        decoder can slice its logits with a static size.
    """
    xp = _namespace(position)
    return (
      xp.asarray(self.legal_start)[position],
      xp.asarray(self.legal_stop)[position],
    )

  def pack(
    self,
    codes: Mapping[str, Int[Array, 'batch _ _']],
    *,
    frame_masks: Mapping[str, Bool[Array, 'batch _']] | None = None,
  ) -> Int[Array, 'batch length']:
    """Makes whole rows, as they are trained on.

    Args:
      codes: Codes of each stream, `[batch, frames, levels]`, from level 0 on
        and at least up to the last that is taken. Other streams are ignored.
        Codes in NumPy arrays are checked; in JAX arrays they must be legal.
      frame_masks: True at the frames that a clip has, for streams where it is
        shorter than the window. The others become `pad_id`.

    Returns:
      int32 tokens, in the library of `codes`.
    """
    return self._join(self._parts(self.segments, codes, frame_masks or {}))

  def pack_prompt(
    self,
    codes: Mapping[str, Int[Array, 'batch _ _']],
    *,
    frame_masks: Mapping[str, Bool[Array, 'batch _']] | None = None,
    given: Bool[Array, 'batch frames #levels'] | None = None,
    num_rows: int | None = None,
  ) -> Int[Array, 'batch length']:
    """Makes rows to decode: what is still to be made is `pad_id`.

    Args:
      codes: As for `pack`; the output's are read only where `given`.
      frame_masks: As for `pack`, of the inputs.
      given: True at the output's codes that are forced (the start of a
        continuation, the surroundings of a gap); none if left out. Where
        repeats are removed, of the start only.
      num_rows: Rows to make, for a stage without inputs.

    Returns:
      int32 tokens, in the library of `codes`.
    """
    parts = self._parts(self.segments[:-1], codes, frame_masks or {})
    if given is not None:
      parts.append(self._segment_tokens(self.output, codes, given))
    elif parts or num_rows is not None:
      num_rows = parts[0].shape[0] if parts else num_rows
      shape = (num_rows, self.output.stop - self.output.start)
      parts.append(np.full(shape, self.pad_id, np.int32))
    else:
      raise ValueError(
        f'Stage {self.spec.name!r} has no inputs, so nothing says how many'
        ' rows to make; pass `num_rows`.'
      )
    return self._join(parts)

  def unpack(
    self, tokens: Int[Array, 'batch length'], *, segment: Segment | None = None
  ) -> Int[Array, 'batch frames levels']:
    """Reads the codes of `segment`, the output if left out.

    Returns:
      Codes; `NO_CODE` where the token is not a code of its position.
    """
    segment = self.output if segment is None else segment
    xp = _namespace(tokens)
    shape = (tokens.shape[0], segment.num_frames, segment.take.count)
    first_ids = xp.asarray(segment.first_ids, dtype=np.int32)[None, None]
    codes = tokens[:, segment.positions].reshape(shape) - first_ids
    legal = (codes >= 0) & (codes < segment.take.stream.codebook_size)
    return xp.where(legal, codes, NO_CODE)

  def drop_inputs(
    self,
    tokens: Int[Array, 'batch length'],
    *,
    streams: Collection[str],
    dropped: Bool[Array, ' batch'],
  ) -> Int[Array, 'batch length']:
    """Puts `null_id` over the inputs from `streams`, in the rows `dropped`."""
    inputs = {take.stream.name for take in self.spec.inputs}
    if unknown := sorted(set(streams) - inputs):
      raise ValueError(
        f'Stage {self.spec.name!r} has no input {unknown[0]!r} to drop; its'
        f' inputs are {sorted(inputs)}.'
      )
    covered = np.isin(
      self.segment_index,
      [
        index
        for index, take in enumerate(self.spec.inputs)
        if take.stream.name in streams
      ],
    )
    xp = _namespace(tokens, dropped)
    return xp.where(dropped[:, None] & covered[None], self.null_id, tokens)

  def valid_mask(
    self, tokens: Int[Array, 'batch length']
  ) -> Bool[Array, 'batch length']:
    """True where there is something to attend to."""
    return tokens != self.pad_id

  def loss_mask(
    self, tokens: Int[Array, 'batch length']
  ) -> Bool[Array, 'batch length']:
    """True at the codes of the output that the clip has.

    It marks the *target*: the loss of position p is that of the logits at
    p - 1.
    """
    return self.valid_mask(tokens) & self.output_mask[None]

  def _table(self, values_of: Any) -> Int[np.ndarray, ' length']:
    """A column of the row: `values_of(index, segment)` at the codes, else -1."""
    table = np.full(self.length, -1, np.int32)
    for index, segment in enumerate(self.segments):
      table[segment.positions] = values_of(index, segment)
    return table

  def _parts(
    self,
    segments: tuple[Segment, ...],
    codes: Mapping[str, Array],
    frame_masks: Mapping[str, Bool[Array, 'batch _']],
  ) -> list[Int[Array, 'batch _']]:
    """The tokens of each of `segments`."""
    if unused := sorted(set(frame_masks) - set(codes)):
      raise ValueError(
        f'A frame mask of {unused[0]!r}, but codes of {sorted(codes)}; name'
        ' the mask as its codes.'
      )
    parts = []
    for segment in segments:
      mask = frame_masks.get(segment.take.stream.name)
      mask = None if mask is None else mask[:, :, None]
      parts.append(self._segment_tokens(segment, codes, mask))
    return parts

  def _segment_tokens(
    self,
    segment: Segment,
    codes: Mapping[str, Array],
    mask: Bool[Array, 'batch frames #levels'] | None,
  ) -> Int[Array, 'batch _']:
    """The tokens of one segment without its separator, PAD where masked."""
    taken = self._taken_codes(segment, codes)
    xp = _namespace(taken, mask)
    mask = xp.ones((1, 1, 1), dtype=bool) if mask is None else mask
    size = segment.take.stream.codebook_size
    # Traced codes cannot be looked at; NumPy's can, and come from files.
    if xp is np and np.any(mask & ((taken < 0) | (taken >= size))):
      raise ValueError(
        f'Codes of {segment.take.stream.name!r} span {taken.min()} to'
        f' {taken.max()}; stage {self.spec.name!r} takes 0 to {size - 1}. Mask'
        ' padding with `frame_masks`.'
      )
    if segment.take.distinct_share is not None:
      taken, mask = deduplication.remove_repeats(
        taken, xp.broadcast_to(mask, taken.shape), xp=xp
      )
    first_ids = xp.asarray(segment.first_ids, dtype=np.int32)[None, None]
    tokens = xp.where(mask, taken.astype(np.int32) + first_ids, self.pad_id)
    return tokens.reshape(tokens.shape[0], -1)  # [batch, frames * levels]

  def _taken_codes(
    self, segment: Segment, codes: Mapping[str, Array]
  ) -> Int[Array, 'batch frames levels']:
    """The levels of a segment; a `ValueError` if the codes lack them."""
    take, name = segment.take, segment.take.stream.name
    if name not in codes:
      raise ValueError(
        f'Stage {self.spec.name!r} needs codes of {name!r}; got those of'
        f' {sorted(codes)}.'
      )
    shape, available = codes[name].shape, take.stream.num_codebooks
    if (
      len(shape) != 3
      or shape[1] != segment.num_frames
      or not take.stop <= shape[2] <= available
    ):
      raise ValueError(
        f'Stage {self.spec.name!r} takes [batch, {segment.num_frames}, levels]'
        f' of {name!r} with {take.stop} to {available} levels; got'
        f' {list(shape)}. Cut the codes to one window, from level 0 on.'
      )
    return codes[name][:, :, take.first : take.stop]

  def _join(self, parts: list[Array]) -> Int[Array, 'batch length']:
    """Puts BOS, separators and the last padding around the segments."""
    xp, num_rows = _namespace(*parts), parts[0].shape[0]
    ids = [self.bos_id, *(segment.separator_id for segment in self.segments)]
    ids += [self.pad_id] * (self.length - self.output.stop)
    columns = [xp.full((num_rows, 1), token, dtype=np.int32) for token in ids]
    for index, part in enumerate(parts):
      columns.insert(2 * index + 2, part)  # after BOS and its own separator
    return xp.concatenate(columns, axis=1)


def _namespace(*arrays: Array) -> Any:
  """NumPy, or the library of the first array that is not NumPy's."""
  for array in arrays:
    if hasattr(array, '__array_namespace__'):
      if not isinstance(array, np.ndarray | np.generic):
        return array.__array_namespace__()
  return np
