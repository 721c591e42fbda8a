# SPDX-License-Identifier: Apache-2.0
"""CONDITION CODES → ACOUSTIC CODES: a cascade over pieces of any length.

Coarse rows read semantic codes of their whole window, and fine windows lie
wholly within coarse codes, so every row is one that the stage was trained on.
For that stages look beyond the end of what is asked for, and beyond a change of
prompt: up to there all codes are those of pieces that do not change, and from
there on a piece is continued under the new prompt.

Shapes: batch = pieces; codes [batch, frames, levels].
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from . import windows
from .cascade import NAMES, Cascade
from .decoding import StageDecoder
from .layout import NO_CODE, TokenStream
from .sampling import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A stretch of pieces under one prompt.

  Attributes:
    start: Its first tick; it ends where the next begins.
    conditions: Codes of every stream that conditions, [batch, 1, levels].
  """

  start: int
  conditions: Mapping[str, Tensor]


class Composition:
  """Pieces of one length that change together, while they are being made.

  Attributes:
    semantic: Codes, `NO_CODE` where not made yet; longer than was asked for.
    acoustic: Likewise.
  """

  def __init__(
    self,
    cascade: Cascade,
    *,
    settings: Settings,
    ticks: int,
    seeds: Tensor,
    sections: Sequence[Section],
    max_rows: int,
    as_it_grows: bool = False,
    semantic: Tensor | None = None,
    acoustic: Tensor | None = None,
  ):
    """Makes nothing before `pieces` is asked for one.

    Args:
      cascade: The stages.
      settings: How they draw.
      ticks: Length of the pieces.
      seeds: One a piece, [batch].
      sections: In order of time, the first from tick 0 on.
      max_rows: How many windows are decoded at a time, twice as many under
        guidance; bounds the memory of the caches, whatever the length.
      as_it_grows: Whether codes are handed over as windows are complete; fine
        windows are decoded together as far as that allows.
      semantic: Codes that are given, [batch, frames, levels].
      acoustic: As many ticks of acoustic codes, of all levels; fewer than the
        pieces have.
    """
    self._cascade, self._ticks, self._seeds = cascade, ticks, seeds
    self._sections, self._as_it_grows = sections, as_it_grows
    self._decoders = {}
    # A scale of 1 is no guidance at twice the price.
    guidance = None if settings.guidance == 1 else settings.guidance
    for index, (name, model) in enumerate(cascade.items()):
      heard = {segment.stream.name for segment in model.layout.inputs}
      dropped = heard & cascade.condition_names
      self._decoders[name] = StageDecoder(
        model=model,
        index=index,
        sampler=getattr(settings, name),
        guidance=guidance if dropped else None,
        dropped=dropped,
        max_rows=max_rows,
      )
    self._per_tick = cascade.frames(cascade.acoustic_stream, ticks=1)
    self._windows = {name: cascade.window(name) for name in NAMES[:2]}
    self._fine_window = cascade['fine'].layout.output.num_frames
    # Room for whole windows beyond the end.
    room = ticks + self._fine_window + sum(self._windows.values())
    self.semantic = self._buffer(cascade.semantic_stream, room, semantic)
    self.acoustic = self._buffer(cascade.acoustic_stream, room, acoustic)
    self._num_given = 0 if acoustic is None else acoustic.shape[1]

  def pieces(self) -> Iterator[Tensor]:
    """Acoustic codes in order of time, joined the whole of what was asked."""
    if self._num_given:
      yield self.acoustic[:, : self._num_given, : self._cascade.num_levels]
    known = self._num_given // self._per_tick
    stops = [*(section.start for section in self._sections[1:]), self._ticks]
    for section, stop in zip(self._sections, stops):
      if stop <= known:
        continue
      plan = windows.plan(
        known=max(section.start, known),
        stop=stop,
        total=self._ticks,
        semantic_window=self._windows['semantic'],
        coarse_window=self._windows['coarse'],
        fine_window=self._fine_window,
        frames_per_tick=self._per_tick,
      )
      for first, last in self._make(plan, section.conditions):
        last = min(last, stop * self._per_tick)
        yield self.acoustic[:, first:last, : self._cascade.num_levels]

  def _make(
    self, plan: windows.Plan, conditions: Mapping[str, Tensor]
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
      stream = self._cascade.semantic_stream
      heard = self.semantic[:, self._span(stream, run.start, reads_until)]
      self._slide('coarse', run, {**conditions, stream.name: heard})
      ready = [t for t in fine if t.stop <= run.stop * self._per_tick]
      if ready and (is_last or self._as_it_grows):
        fine = fine[len(ready) :]
        self._make_fine(ready, conditions)
        yield ready[0].first, ready[-1].stop

  def _buffer(
    self, stream: TokenStream, ticks: int, given: Tensor | None
  ) -> Tensor:
    """Room for `ticks` of a stream, what is given filled in."""
    num_frames = self._cascade.frames(stream, ticks=ticks)
    shape = len(self._seeds), num_frames, stream.num_codebooks
    codes = torch.full(shape, NO_CODE, device=self._seeds.device)
    if given is not None:
      codes[:, : given.shape[1]] = given
    return codes

  def _slide(
    self, name: str, run: windows.Run, inputs: Mapping[str, Tensor]
  ) -> None:
    """Makes a run of a sliding stage, in place."""
    decoder, window = self._decoders[name], self._windows[name]
    layout = decoder.model.layout
    stream, levels = layout.output.stream, layout.output.levels
    buffer = self.semantic if name == 'semantic' else self.acoustic
    codes = buffer[:, self._span(stream, run.start, run.start + window)]
    num_known, num_kept, stop = (
      self._cascade.frames(stream, ticks=ticks)
      for ticks in (
        run.known - run.start,
        windows.kept(window),
        run.stop - run.start,
      )
    )
    frames = torch.arange(codes.shape[1], device=codes.device)
    whole = decoder.decode(
      layout.pack_prompt(
        {**inputs, stream.name: codes},
        given=(frames < num_known)[None, :, None],
      ),
      seeds=self._seeds,
      places=torch.full_like(self._seeds, run.start),
      num_frames=stop,
      # Two sizes: rows from scratch, and rows after a usual prompt.
      num_prefilled_frames=num_kept if num_known >= num_kept else 0,
    )
    made = layout.unpack(whole)[:, num_known:stop]
    codes[:, num_known:stop, levels.start : levels.stop] = made

  def _make_fine(
    self, tiles: Sequence[windows.Tile], conditions: Mapping[str, Tensor]
  ) -> None:
    """Makes the levels that are left, all windows as one batch, in place."""
    decoder = self._decoders['fine']
    layout = decoder.model.layout
    name, levels = layout.output.stream.name, layout.output.levels
    batch = len(self._seeds)
    prompts = [
      layout.pack_prompt(
        {**conditions, name: self.acoustic[:, tile.start : tile.stop]}
      )
      for tile in tiles
    ]
    starts = self._seeds.new_tensor([tile.start for tile in tiles])
    made = layout.unpack(
      decoder.decode(
        torch.cat(prompts),
        seeds=self._seeds.repeat(len(tiles)),
        places=starts.repeat_interleave(batch),
      )
    )
    for tile, codes in zip(tiles, made.split(batch)):
      self.acoustic[:, tile.first : tile.stop, levels.start : levels.stop] = (
        codes[:, tile.first - tile.start :]
      )

  def _span(self, stream: TokenStream, start: int, stop: int) -> slice:
    frames = self._cascade.frames
    return slice(frames(stream, ticks=start), frames(stream, ticks=stop))
