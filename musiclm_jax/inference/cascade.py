# SPDX-License-Identifier: Apache-2.0
"""Three stages that fit together, and the time that they count in.

MusicLM (Agostinelli et al., 2023), section 3.3: semantic codes, then the first
acoustic levels, then the others. All times are in ticks, the shortest time that
is a whole number of frames of both streams: 40 ms at 25 and 50 Hz.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools

from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.stages.spec import StageSpec, common_period
from musiclm_jax.streams import Exact, TokenStream, require_same_stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cascade:
  """Three stages that fit together.

  Attributes:
    semantic: Conditions to semantic codes.
    coarse: Those to the first acoustic levels.
    fine: Those to all the others.
    max_rows: How many windows are decoded at a time, twice as many under
      guidance; bounds the memory of the caches, whatever the length.
  """

  semantic: StageDecoder
  coarse: StageDecoder
  fine: StageDecoder
  max_rows: int = 16

  def __post_init__(self):
    if self.max_rows < 1:
      raise ValueError(f'max_rows is {self.max_rows}; at least 1.')
    coarse, fine = self.coarse.config.spec, self.fine.config.spec
    for spec, stream in (
      (coarse, self.semantic_stream),
      (fine, self.acoustic_stream),
    ):
      if stream.name not in spec.streams:
        raise ValueError(
          f'Stage {spec.name!r} reads {sorted(spec.streams)} and not'
          f' {stream.name!r}, which the stage before it makes.'
        )
      require_same_stream(
        wanted=spec.streams[stream.name],
        got=stream,
        remedy=f'Train stage {spec.name!r} on the codes of the others.',
      )
    if fine.output.first != coarse.output.count:
      raise ValueError(
        f'The coarse stage makes {coarse.output.count} levels of'
        f' {self.acoustic_stream.name!r} and the fine stage goes on from level'
        f' {fine.output.first + 1}; train either with the split of the other.'
      )
    makes_runs = self.semantic.config.spec.output.distinct_share is not None
    for take in coarse.inputs:
      reads_runs = take.distinct_share is not None
      if take.stream == self.semantic_stream and makes_runs != reads_runs:
        raise ValueError(
          f'Repeats of {take.stream.name!r} are removed in'
          f' {"one" if makes_runs else "the coarse"} stage and not in the'
          ' other; train both with distinct_share, or neither.'
        )
    for decoder in (self.semantic, self.coarse):
      self.window(decoder)

  @property
  def semantic_stream(self) -> TokenStream:
    return self.semantic.config.spec.output.stream

  @property
  def acoustic_stream(self) -> TokenStream:
    return self.coarse.config.spec.output.stream

  @property
  def num_levels(self) -> int:
    """Acoustic levels that are made."""
    return self.fine.config.spec.output.stop

  @functools.cached_property
  def tick_seconds(self) -> fractions.Fraction:
    """The shortest time that is a whole number of frames of both streams."""
    streams = (self.semantic_stream, self.acoustic_stream)
    return common_period(stream.rate_hz for stream in streams)

  @functools.cached_property
  def condition_names(self) -> frozenset[str]:
    """The streams that condition a stage."""
    made = {self.semantic_stream.name, self.acoustic_stream.name}
    specs = (d.config.spec for d in (self.semantic, self.coarse, self.fine))
    return frozenset().union(*(spec.streams for spec in specs)) - made

  def ticks(self, seconds: Exact) -> int:
    """Whole ticks that hold `seconds`."""
    return -(-fractions.Fraction(str(seconds)) // self.tick_seconds)

  def frames(self, stream: TokenStream, *, ticks: int) -> int:
    """Frames of `stream` in `ticks`."""
    return ticks * stream.num_frames(self.tick_seconds)

  def window(self, decoder: StageDecoder) -> int:
    """Ticks of a sliding stage's window."""
    spec: StageSpec = decoder.config.spec
    ticks = spec.window_seconds / self.tick_seconds
    if ticks.denominator != 1 or ticks < 2:
      raise ValueError(
        f'The window of stage {spec.name!r}, {float(spec.window_seconds):g} s,'
        f' is not two or more times {self.tick_seconds} s, which is a whole'
        ' number of frames of every stream; train it over another window.'
      )
    return int(ticks)
