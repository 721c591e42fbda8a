# SPDX-License-Identifier: Apache-2.0
"""The embedded default data set: folk tunes and chorales, rendered.

Its clips come from pip packages alone (tunes of music21's corpus, midirenderer,
the sound font of pretty_midi): nothing is downloaded. Split by tune: a melody
is in one split, whatever its title, collection and rendering.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from musiclm_jax.data import sources
from musiclm_jax.data.tunebook import arrangement, catalogue, rendering


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tunebook:
  """A `ClipSource` of rendered tunes.

  Attributes:
    max_tunes: Take only so many tunes, a fixed draw with at least one of each
      split; all of them if None.
    renderings_per_tune: Each with its own instruments, tempo, level and key.
    splits: Take only these; all of them if None.
    seed: Of the renderings, not of the splits or of the draw of tunes.
  """

  max_tunes: int | None = None
  renderings_per_tune: int = 1
  splits: tuple[str, ...] | None = None
  seed: int = 0

  def __post_init__(self):
    if self.max_tunes is not None and self.max_tunes < 3:
      raise ValueError(
        f'max_tunes is {self.max_tunes}, but each of the three splits needs a'
        ' tune; ask for 3 or more.'
      )
    if self.renderings_per_tune < 1:
      raise ValueError(
        f'renderings_per_tune is {self.renderings_per_tune}, not 1 or more.'
      )
    if not set(self.splits or ()) <= set(sources.SPLIT_SHARES):
      raise ValueError(
        f'splits is {self.splits}; choose among {tuple(sources.SPLIT_SHARES)}.'
      )

  @property
  def name(self) -> str:
    return 'tunebook'

  def clips(self) -> Sequence[sources.ClipRef]:
    """The clips of all tunes that may be used.

    Without `max_tunes` a tune that cannot be read is among them, to be counted
    with its reason as `load` rejects it. A small draw holds none: one would be
    too large a share of it.
    """
    wanted = self.splits or tuple(sources.SPLIT_SHARES)
    return [
      sources.ClipRef(id=f'{entry.id}/{number}', split=split, group=entry.group)
      for entry in _entries(self.max_tunes)
      if (split := sources.split_of(entry.group)) in wanted
      for number in range(self.renderings_per_tune)
    ]

  def load(self, ref: sources.ClipRef) -> sources.Clip:
    tune_id, _, number = ref.id.rpartition('/')
    tune = catalogue.read_tune(tune_id, folder=catalogue.corpus_folder())
    if tune.score is None:
      raise sources.RejectedClip('unreadable', tune.problem)
    try:
      return rendering.render_tune(tune, rendering=int(number), seed=self.seed)
    except ValueError as error:
      raise sources.RejectedClip('unplayable', str(error)) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
  """A tune of the catalogue."""

  id: str
  group: str
  readable: bool


@functools.lru_cache(maxsize=1)
def _catalogue() -> tuple[_Entry, ...]:
  """Always of all tunes: a subset must not change the groups."""
  tunes = list(catalogue.tunes(catalogue.corpus_folder()))
  groups = catalogue.groups(tunes)
  return tuple(
    _Entry(id=tune.id, group=groups[tune.id], readable=tune.score is not None)
    for tune in tunes
  )


def _entries(max_tunes: int | None) -> Sequence[_Entry]:
  """Every tune in order, or a draw that has the shares of the splits."""
  if max_tunes is None:
    return _catalogue()
  left = {
    split: max(1, round(share * max_tunes))
    for split, share in sources.SPLIT_SHARES.items()
    if split != sources.TRAIN
  }
  left[sources.TRAIN] = max_tunes - sum(left.values())
  readable = [entry for entry in _catalogue() if entry.readable]
  arrangement.generator('draw of tunes').shuffle(readable)
  drawn = []
  for entry in readable:
    split = sources.split_of(entry.group)
    if left[split]:
      left[split] -= 1
      drawn.append(entry)
  return drawn
