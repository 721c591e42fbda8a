# SPDX-License-Identifier: Apache-2.0
"""Music of any system beside a reference: FAD, KLD, MCC and levels at once.

Each clip is mixed down and measured at its own rate, then resampled to that of
each embedder and embedded whole; what could not be heard is named. MusicLM
(Agostinelli et al., 2023), section 5.1, has FAD, KLD and MCC.

Shapes: embeddings [frames, dim] of each clip.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from musiclm_jax.audio import resample
from musiclm_jax.conditioning.base import mean_direction
from musiclm_jax.evaluation import (
  bootstrap,
  cycle_consistency,
  frechet,
  kld,
  level,
)
from musiclm_jax.evaluation import clips as clips_of
from musiclm_jax.evaluation.embedders import base
from musiclm_jax.evaluation.prompts import Prompt

# A set of which more is silent is warned of.
_SILENT_SHARE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeardClip:
  """What is known of a clip once its samples are gone.

  Attributes:
    name: Of it in its set.
    sample_rate_hz: As it came.
    num_channels: As it came.
    seconds: Its length.
    level: Its figures.
  """

  name: str
  sample_rate_hz: int
  num_channels: int
  seconds: float
  level: level.LevelFigures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
  """A set of music as the embedders hear it.

  Attributes:
    source: Where it is from, for the report.
    clips: In the order of `embeddings`.
    embeddings: By embedder, of each clip.
    bad: What could not be heard.
  """

  source: str
  clips: tuple[HeardClip, ...]
  embeddings: Mapping[str, tuple[base.Frames, ...]]
  bad: tuple[clips_of.BadClip, ...]

  @functools.cached_property
  def gaussians(self) -> dict[str, frechet.Gaussian]:
    """Of the embeddings of all clips, by embedder."""
    return {k: frechet.gaussian_of(v) for k, v in self.embeddings.items()}

  def counts(self, attribute: str) -> dict[int, int]:
    """How many clips have each value of an attribute."""
    found = collections.Counter(getattr(clip, attribute) for clip in self.clips)
    return dict(found.most_common())


@dataclasses.dataclass(frozen=True, kw_only=True)
class MusicReport:
  """What was found.

  Attributes:
    generated: The music in question.
    reference: What it is held against.
    embedders: By name.
    frechet: By embedder.
    kld: By classifier.
    consistency: By embedder that knows texts; empty without two different
      prompts, since what counts is what music gains over the other's; a warning
      says so.
    num_pairs: Clips that have a reference of their own.
    warnings: What makes figures weak.
  """

  generated: Heard
  reference: Heard
  embedders: Mapping[str, base.Embedder]
  frechet: Mapping[str, frechet.FrechetFigures]
  kld: Mapping[str, kld.KldFigures]
  consistency: Mapping[str, cycle_consistency.ConsistencyFigures]
  num_pairs: int
  warnings: tuple[str, ...]


def hear(
  clips: Iterable[clips_of.Clip | clips_of.BadClip],
  *,
  source: str,
  embedders: Sequence[base.Embedder],
) -> Heard:
  """Measures levels and embeds, a clip at a time.

  Raises:
    ValueError: Not one clip could be heard.
  """
  heard, bad = [], []
  embeddings = {embedder.name: [] for embedder in embedders}
  for clip in clips:
    if isinstance(clip, clips_of.BadClip):
      bad.append(clip)
      continue
    rate_hz = clip.sample_rate_hz
    for embedder in embedders:
      waveform = resample.resample(
        clip.waveform, from_hz=rate_hz, to_hz=embedder.sample_rate_hz
      )
      embeddings[embedder.name].append(embedder.embed(waveform))
    heard.append(
      HeardClip(
        name=clip.name,
        sample_rate_hz=rate_hz,
        num_channels=clip.num_channels,
        seconds=clip.waveform.size / rate_hz,
        level=level.measure(clip.waveform, sample_rate_hz=rate_hz),
      )
    )
  if not heard:
    raise ValueError(
      f'Not one of {len(bad)} files of {source} could be read; the first,'
      f' {bad[0].name}: {bad[0].reason}'
      if bad
      else f'{source} has no clips.'
    )
  return Heard(
    source=source,
    clips=tuple(heard),
    embeddings={name: tuple(found) for name, found in embeddings.items()},
    bad=tuple(bad),
  )


def evaluate(
  generated: Heard,
  reference: Heard,
  *,
  embedders: Sequence[base.Embedder],
  prompts: Sequence[Prompt] = (),
  has_plain_fad: bool = False,
) -> MusicReport:
  """Everything that both sets and the embedders allow.

  Args:
    generated: The music in question.
    reference: What it is held against.
    embedders: Those that heard both.
    prompts: What clips were asked to be, by their file; not all need one. One
      that names a reference pairs the clip with it; without, a clip's pair is
      that of its own name.
    has_plain_fad: Leaves out what takes long: the interval of FAD, FAD∞ and the
      figure of each clip.
  """
  pairs = _pairs(generated, reference, prompts)
  distances, klds = {}, {}
  for embedder in embedders:
    ours = generated.embeddings[embedder.name]
    theirs = reference.embeddings[embedder.name]
    distances[embedder.name] = (
      frechet.measure_plainly(ours, goal=reference.gaussians[embedder.name])
      if has_plain_fad
      else frechet.measure(ours, reference=theirs)
    )
    if isinstance(embedder, base.Classifier):
      klds[embedder.name] = kld.measure(
        [embedder.probabilities(clip) for clip in ours],
        reference=[embedder.probabilities(clip) for clip in theirs],
        pairs=pairs,
        classes=embedder.classes,
      )
  readers = [one for one in embedders if isinstance(one, base.TextEmbedder)]
  asked = _asked(generated, prompts) if prompts and readers else []
  is_varied = len({prompt.text for prompt in asked}) > 1
  warnings = [*_warnings(generated, reference, distances, embedders=embedders)]
  if klds:
    warnings += _of_lost_pairs(generated, reference, prompts)
  if readers and not prompts:
    warnings.append(
      'MCC is left out: nothing says what the music was asked to be'
    )
  if asked and not is_varied:
    warnings.append(
      'MCC is left out: all prompts are one text, and it wants two different'
      ' ones to shuffle'
    )
  return MusicReport(
    generated=generated,
    reference=reference,
    embedders={embedder.name: embedder for embedder in embedders},
    frechet=distances,
    kld=klds,
    consistency={
      reader.name: _consistency(generated, reader, asked)
      for reader in readers
      if is_varied
    },
    num_pairs=len(pairs),
    warnings=tuple(warnings),
  )


def level_estimates(heard: Heard) -> dict[str, bootstrap.Estimate]:
  """The mean of each level figure, over the clips that have one."""
  found = {}
  for field in dataclasses.fields(level.LevelFigures):
    values = np.array([getattr(clip.level, field.name) for clip in heard.clips])
    values = values[np.isfinite(values)]
    if values.size:
      found[field.name] = bootstrap.estimate_mean(values)
  return found


def _pairs(
  generated: Heard, reference: Heard, prompts: Sequence[Prompt]
) -> list[tuple[int, int]]:
  """Numbers of clips and of the reference of each that has one."""
  named = _references(generated, prompts)
  names = [named.get(name, name) for name in _names(generated)]
  return clips_of.pairs_of(names, _names(reference))


def _references(generated: Heard, prompts: Sequence[Prompt]) -> dict[str, str]:
  """What prompts say that clips are paired with."""
  heard = set(_names(generated))
  return {
    p.file: p.reference
    for p in prompts
    if p.reference is not None and p.file in heard
  }


def _of_lost_pairs(
  generated: Heard, reference: Heard, prompts: Sequence[Prompt]
) -> Iterable[str]:
  named = [*_references(generated, prompts).values()]
  found = {n for n, _ in clips_of.pairs_of(named, _names(reference))}
  lost = [name for n, name in enumerate(named) if n not in found]
  if lost:
    yield (
      f'{len(lost)} of {len(named)} clips that prompts pair with one of the'
      ' reference are in no KLD of pairs, for it lacks theirs, such as'
      f' {lost[0]!r}; take all of it, and the split that the prompts are of'
    )


def _asked(heard: Heard, prompts: Sequence[Prompt]) -> list[Prompt]:
  """The prompts of clips that were heard."""
  names = set(_names(heard))
  found = [prompt for prompt in prompts if prompt.file in names]
  if not found:
    raise ValueError(
      f'No prompt tells of a file of {heard.source}; a line of the prompts'
      ' names one as "file", relative to that folder.'
    )
  return found


def _consistency(
  heard: Heard, embedder: base.TextEmbedder, asked: Sequence[Prompt]
) -> cycle_consistency.ConsistencyFigures:
  """Of the clips that have a prompt."""
  places = {name: n for n, name in enumerate(_names(heard))}
  clips = heard.embeddings[embedder.name]
  texts = [prompt.text for prompt in asked]
  return cycle_consistency.measure(
    np.stack([mean_direction(clips[places[prompt.file]]) for prompt in asked]),
    embedder.embed_text(texts),
    prompts=texts,
  )


def _warnings(
  generated: Heard,
  reference: Heard,
  distances: Mapping[str, frechet.FrechetFigures],
  *,
  embedders: Sequence[base.Embedder],
) -> Iterable[str]:
  for side, heard in (('generated', generated), ('reference', reference)):
    if heard.bad:
      yield (
        f'{len(heard.bad)} of {len(heard.bad) + len(heard.clips)} {side} files'
        ' could not be read and are in no figure; they are named below'
      )
    silent = np.mean([clip.level.silent_share for clip in heard.clips])
    if silent > _SILENT_SHARE:
      yield f'{silent:.0%} of the {side} music is silent'
    for embedder in embedders:
      seconds = embedder.window_seconds
      short = sum(clip.seconds < seconds for clip in heard.clips)
      if short:
        yield (
          f'{short} {side} clips are shorter than the {seconds:.3g} s that'
          f' {embedder.name} hears at once, and were repeated or padded'
        )
  for name, figures in distances.items():
    for warning in figures.warnings:
      yield f'FAD-{name}: {warning}'


def _names(heard: Heard) -> list[str]:
  return [clip.name for clip in heard.clips]
