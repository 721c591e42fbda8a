# SPDX-License-Identifier: Apache-2.0
"""CONDITION CODES → ACOUSTIC CODES: a cascade over pieces of any length.

Ours: coarse rows read semantic codes of their whole window, and fine windows lie
wholly within coarse codes, so every row is one that the stage was trained on.
For that stages look beyond the end of what is asked for, and beyond a change of
condition: up to there all codes, of all stages, are those of pieces that do not
change, and from there on a piece is continued under the new condition.

Where repeats of semantic codes are removed, `CodeTimes` says which codes sound in
a window, and how many are to be made for it.

Shapes: batch = pieces, frames and levels of a stream.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from musiclm_jax.array_types import Codes
from musiclm_jax.inference import rows, windows
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.stages import deduplication
from musiclm_jax.stages.layout import NO_CODE
from musiclm_jax.streams import TokenStream

# Told the stage and the share of it that is done.
Progress = Callable[[str, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A stretch of pieces under one condition.

  Attributes:
    start: Its first tick; it ends where the next begins.
    conditions: Codes of every stream that conditions, [batch, 1, levels].
  """

  start: int
  conditions: Mapping[str, Int[np.ndarray, 'batch 1 _']]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """What is to be made, for pieces of one length that change together.

  Attributes:
    ticks: Length of the pieces, what is given included.
    seeds: One a piece, [batch].
    sections: In order of time, the first from tick 0 on.
    semantic: Codes that are given, of every frame, [batch, frames, levels]; none
      if left out.
    acoustic: As many ticks of acoustic codes, of all levels; fewer than the
      piece has.
  """

  ticks: int
  seeds: UInt[np.ndarray, ' batch']
  sections: tuple[Section, ...]
  semantic: Int[np.ndarray, 'batch _ _'] | None = None
  acoustic: Int[np.ndarray, 'batch _ _'] | None = None

  def stretches(self, *, known: int) -> Iterator[tuple[int, int, Section]]:
    """(first tick, stop, section) of what is to be made after `known`."""
    stops = [*(section.start for section in self.sections[1:]), self.ticks]
    for section, stop in zip(self.sections, stops):
      if stop > known:
        yield max(section.start, known), stop, section


class Composition:
  """Pieces that are being made.

  Attributes:
    semantic: Codes, `NO_CODE` where not made yet; longer than was asked for. Of
      runs, where repeats are removed.
    acoustic: Likewise, of frames.
    seconds: Time spent in each stage so far, compiling included.
  """

  def __init__(
    self,
    cascade: Cascade,
    order: Order,
    *,
    as_it_grows: bool = False,
    progress: Progress | None = None,
  ):
    """Makes nothing before `pieces` is asked for one.

    Args:
      cascade: The stages.
      order: What is to be made.
      as_it_grows: Whether codes are handed over as windows are complete; fine
        windows are decoded together as far as that allows.
      progress: Told what is done.
    """
    self._cascade, self._order = cascade, order
    self._as_it_grows = as_it_grows
    self._progress = progress or (lambda stage, share: None)
    self.seconds = {'semantic': 0.0, 'coarse': 0.0, 'fine': 0.0}
    self._per_tick = cascade.frames(cascade.acoustic_stream, ticks=1)
    # Room for whole windows beyond the end.
    windows_of = {'semantic': cascade.semantic, 'coarse': cascade.coarse}
    self._windows = {k: cascade.window(d) for k, d in windows_of.items()}
    self._fine_window = cascade.fine.config.layout.output.num_frames
    room = order.ticks + self._fine_window + sum(self._windows.values())
    self._times = self._code_times(room)
    self.semantic = self._buffer(cascade.semantic_stream, room, self._given())
    self.acoustic = self._buffer(cascade.acoustic_stream, room, order.acoustic)

  @property
  def semantic_piece(self) -> Codes:
    """The semantic codes of what was asked for."""
    stream = self._cascade.semantic_stream
    return self.semantic[:, self._span(stream, 0, self._order.ticks)]

  def pieces(self) -> Iterator[Codes]:
    """Acoustic codes in order of time, joined the whole of what was asked."""
    known = 0
    if self._order.acoustic is not None:
      known = self._order.acoustic.shape[1] // self._per_tick
      yield self._acoustic_piece(0, known * self._per_tick)
    for start, stop, section in self._order.stretches(known=known):
      plan = windows.plan(
        known=start,
        stop=stop,
        total=self._order.ticks,
        semantic_window=self._windows['semantic'],
        coarse_window=self._windows['coarse'],
        fine_window=self._fine_window,
        frames_per_tick=self._per_tick,
      )
      for first, last in self._make(plan, section.conditions):
        yield self._acoustic_piece(first, min(last, stop * self._per_tick))

  def _make(
    self, plan: windows.Plan, conditions: Mapping[str, Codes]
  ) -> Iterator[tuple[int, int]]:
    """Makes a stretch; gives the frames that are complete, now and then."""
    semantic, fine = collections.deque(plan.semantic), list(plan.fine)
    for run in plan.coarse:
      is_last = run is plan.coarse[-1]
      reads_until = run.start + self._windows['coarse']
      while semantic and (
        semantic[0].known < reads_until or not self._as_it_grows
      ):
        self._slide('semantic', semantic.popleft(), conditions)
      self._slide('coarse', run, conditions)
      ready = [t for t in fine if t.stop <= run.stop * self._per_tick]
      if ready and (is_last or self._as_it_grows):
        fine = fine[len(ready) :]
        self._make_fine(ready, conditions)
        yield ready[0].first, ready[-1].stop

  def _acoustic_piece(self, first: int, stop: int) -> Codes:
    return self.acoustic[:, first:stop, : self._cascade.num_levels]

  def _code_times(self, ticks: int) -> Mapping[str, deduplication.CodeTimes]:
    """By stream, which code sounds when, over `ticks`."""
    times = {}
    for name in ('semantic', 'coarse'):
      take = getattr(self._cascade, name).config.spec.output
      given = {}
      if take.distinct_share is not None and self._order.semantic is not None:
        given['given'] = self._order.semantic[0, :, 0]
      times[take.stream.name] = deduplication.CodeTimes.of(
        take,
        num_frames=self._cascade.frames(take.stream, ticks=ticks),
        **given,
      )
    return times

  def _given(self) -> Codes | None:
    """The semantic codes that are given, without repeats if so is the piece."""
    given = self._order.semantic
    take = self._cascade.semantic.config.spec.output
    if given is None or take.distinct_share is None:
      return given
    if np.any(given != given[:1]):
      raise ValueError(
        'Pieces that go on from different beginnings differ in how many codes'
        ' without repeats they have; ask for one after the other.'
      )
    codes, _ = deduplication.runs(given[0, :, 0])
    return np.repeat(codes[None, :, None], len(given), axis=0)

  def _buffer(
    self,
    stream: TokenStream,
    ticks: int,
    given: Int[np.ndarray, 'batch _ _'] | None,
  ) -> Int[np.ndarray, 'batch _ levels']:
    """Room for `ticks` of a stream, what is given filled in."""
    num_frames = self._cascade.frames(stream, ticks=ticks)
    shape = (len(self._order.seeds), num_frames, stream.num_codebooks)
    codes = np.full(shape, NO_CODE, np.int32)
    if given is not None:
      codes[:, : given.shape[1]] = given
    return codes

  def _window(self, name: str, run: windows.Run) -> dict[str, Any]:
    """What `pack_prompt` is told of the codes in a run's window."""
    window = run.start, run.start + self._windows[name]
    codes, masks = {}, {}
    for stream, buffer in (
      (self._cascade.semantic_stream, self.semantic),
      (self._cascade.acoustic_stream, self.acoustic),
    ):
      num_frames = self._cascade.frames(stream, ticks=self._windows[name])
      found = buffer[:, self._span(stream, *window)]
      room = ((0, 0), (0, num_frames - found.shape[1]), (0, 0))
      codes[stream.name] = np.pad(found, room)
      masks[stream.name] = np.broadcast_to(
        np.arange(num_frames) < found.shape[1], (len(found), num_frames)
      )
    return {'codes': codes, 'frame_masks': masks}

  def _slide(
    self, name: str, run: windows.Run, conditions: Mapping[str, Codes]
  ) -> None:
    """Makes a run of a sliding stage, in place."""
    decoder: StageDecoder = getattr(self._cascade, name)
    layout, stream = decoder.config.layout, decoder.config.spec.output.stream
    buffer = self.semantic if name == 'semantic' else self.acoustic
    known, wanted = (
      self._span(stream, run.start, stop) for stop in (run.known, run.stop)
    )
    num_known, num_codes = known.stop - known.start, wanted.stop - wanted.start
    if num_known == num_codes:  # The last code goes on.
      return
    num_kept = self._num_kept(name)
    read = self._window(name, run)
    given = np.arange(layout.output.num_frames) < num_known
    made = self._decode(
      name,
      layout.pack_prompt(
        {**conditions, **read['codes']},
        frame_masks=read['frame_masks'],
        given=np.broadcast_to(
          given[None, :, None], (len(buffer), len(given), 1)
        ),
      ),
      places=np.full(len(buffer), run.start, np.uint32),
      done=(run.known / self._order.ticks, run.stop / self._order.ticks),
      num_frames=num_codes,
      # Two programs: for rows from scratch, and for rows after a usual prompt.
      num_prefilled_frames=num_kept if num_known >= num_kept else 0,
    )
    take = layout.output.take
    buffer[:, known.stop : wanted.stop, take.first : take.stop] = made[
      :, num_known:num_codes
    ]

  def _num_kept(self, name: str) -> int:
    """Codes in the half of a window that is kept: the fewest that can be."""
    take = getattr(self._cascade, name).config.spec.output
    ticks = windows.kept(self._windows[name])
    num_frames = self._cascade.frames(take.stream, ticks=ticks)
    times = deduplication.CodeTimes.of(take, num_frames=num_frames)
    return times.span(0, num_frames).stop

  def _make_fine(
    self, tiles: Sequence[windows.Tile], conditions: Mapping[str, Codes]
  ) -> None:
    """Makes the levels that are left, all windows as one batch, in place."""
    layout, name = (
      self._cascade.fine.config.layout,
      self._cascade.acoustic_stream.name,
    )
    starts = np.asarray([tile.start for tile in tiles], np.uint32)
    num_frames = self._order.ticks * self._per_tick
    made = self._decode(
      'fine',
      np.concatenate(
        [
          layout.pack_prompt(
            {**conditions, name: self.acoustic[:, tile.start : tile.stop]}
          )
          for tile in tiles
        ]
      ),
      places=np.repeat(starts, len(self._order.seeds)),
      done=(tiles[0].first / num_frames, tiles[-1].stop / num_frames),
    )
    take = layout.output.take
    for tile, codes in zip(tiles, np.split(made, len(tiles))):
      kept = codes[:, tile.first - tile.start :]
      self.acoustic[:, tile.first : tile.stop, take.first : take.stop] = kept

  def _decode(
    self,
    name: str,
    tokens: Int[np.ndarray, 'rows length'],
    *,
    places: UInt[np.ndarray, ' rows'],
    done: tuple[float, float],
    **options: int,
  ) -> Codes:
    """Codes of whole rows; keeps the time and tells what is done."""
    started = time.perf_counter()
    decoder: StageDecoder = getattr(self._cascade, name)
    before, after = done
    inputs = {take.stream.name for take in decoder.config.spec.inputs}
    seeds = self._order.seeds

    def told(share: float) -> None:
      # A stage may look beyond the end.
      done = before + share * (after - before)
      self._progress(name, min(1.0, done))

    told(0.0)  # Compiling takes its time.
    whole = rows.decode(
      decoder,
      tokens,
      seeds=np.tile(seeds, len(tokens) // len(seeds)),
      places=places,
      stage_index=list(self.seconds).index(name),
      dropped_streams=inputs & self._cascade.condition_names,
      max_rows=self._cascade.max_rows,
      progress=told,
      **options,
    )
    self.seconds[name] += time.perf_counter() - started
    return decoder.config.layout.unpack(whole)

  def _span(self, stream: TokenStream, start: int, stop: int) -> slice:
    """The codes that sound from tick `start` to before `stop`."""
    frames = (self._cascade.frames(stream, ticks=t) for t in (start, stop))
    return self._times[stream.name].span(*frames)
