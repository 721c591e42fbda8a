# SPDX-License-Identifier: Apache-2.0
"""Clip source → corpus on disk, in parallel, resumable, the same every time.

Shard k holds the clips [k * clips_per_shard, (k + 1) * clips_per_shard) of the
source's list. One process loads and writes a whole shard into a hidden folder
and renames it when it is complete, so a shard is there or it is not, and its
bytes do not depend on how many workers there were. A run that was stopped goes
on with the shards that are missing. A bad clip is counted with its reason; only
a share of bad clips above `max_bad_share` ends the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from musiclm_jax.data import corpus, folders, shards, workers
from musiclm_jax.data import progress as progress_lib
from musiclm_jax.data.sources import ClipRef, ClipSource

# Ours: FMA's own report of broken files is well below it.
MAX_BAD_SHARE = 0.01

PLAN_FILE = 'plan.json'
LOCK_FILE = '.lock'


def write_corpus(
  source: ClipSource,
  directory: str | pathlib.Path,
  *,
  sample_rate_hz: int,
  num_workers: int | None = None,
  max_bad_share: float = MAX_BAD_SHARE,
  min_seconds: float = shards.MIN_SECONDS,
  silence_dbfs: float = shards.SILENCE_DBFS,
  clips_per_shard: int | None = None,
  show_progress: bool = True,
) -> corpus.CorpusInfo:
  """Writes every clip of `source`, or what a stopped run has left to write.

  Args:
    source: The data set: a frozen dataclass that pickles.
    directory: Of the corpus; made if it is not there.
    sample_rate_hz: What every clip is resampled to.
    num_workers: Processes; one a core if left out, 0 for none beside this one.
    max_bad_share: More rejected clips than this share of all end the run.
    min_seconds: Shorter clips are rejected.
    silence_dbfs: Clips whose peak is below this are rejected.
    clips_per_shard: Clips in one shard folder. If left out, 32, or fewer where
      that makes less than 64 shards for the workers to share.
    show_progress: Draws a bar on the terminal.

  Returns:
    What corpus.json says.

  Raises:
    ValueError: Too many bad clips, by reason; or the folder holds another
      corpus.
    OSError: The disk is full. Complete shards are kept.
  """
  refs = _checked_refs(source)
  if clips_per_shard is None:
    clips_per_shard = default_clips_per_shard(len(refs))
  settings = shards.ShardSettings(
    sample_rate_hz=sample_rate_hz,
    min_seconds=min_seconds,
    silence_dbfs=silence_dbfs,
  )
  directory = folders.local(directory)
  directory.mkdir(parents=True, exist_ok=True)
  with _exclusive(directory):
    keep_plan(directory, _plan(source, refs, settings, clips_per_shard))
    if (directory / corpus.CORPUS_FILE).exists():
      return corpus.read_info(directory)
    parts = {
      number: refs[first : first + clips_per_shard]
      for number, first in enumerate(range(0, len(refs), clips_per_shard))
    }
    bad = BadClips(
      source.name,
      directory=directory,
      num_clips=len(refs),
      max_share=max_bad_share,
    )
    with progress_lib.bar(
      title=source.name, num_clips=len(refs), visible=show_progress
    ) as bar:
      for number in parts:
        shards.remove_partial(directory, number)
        for report in shards.read_reports(directory, [number]):
          bar.resume(report)
          bad.add(report)
      missing = {
        number: part
        for number, part in parts.items()
        if not shards.is_complete(directory, number)
      }
      work = workers.Work(source=source, directory=directory, settings=settings)
      for report in workers.write_shards(
        work, missing, num_workers=num_workers, bar=bar
      ):
        bad.add(report)
    return _finish(source, directory, settings, len(parts))


def default_clips_per_shard(num_clips: int) -> int:
  """32, or fewer where that makes less than 64 shards to share."""
  return min(32, -(-num_clips // 64))


class BadClips:
  """Adds up rejections and says when they are too many."""

  def __init__(
    self,
    name: str,
    *,
    directory: pathlib.Path,
    num_clips: int,
    max_share: float,
  ):
    """Counts none yet, of `num_clips` clips of the data set `name`."""
    self._name, self._directory = name, directory
    self._num_clips, self._max_share = num_clips, max_share
    self._rejected: list[shards.Rejection] = []

  def add(self, report: shards.ShardReport) -> None:
    self._rejected.extend(report.rejected)
    # Against all clips, not those seen so far: three bad ones at the head of
    # a million are no reason to stop.
    if len(self._rejected) <= self._max_share * self._num_clips:
      return
    reasons = '; '.join(
      f'{counts.clips} {reason} ({counts.examples[0]})'
      for reason, counts in count_rejected(self._rejected).items()
    )
    raise ValueError(
      f'{self._name}: {len(self._rejected)} of {self._num_clips} clips are bad'
      f' so far, more than the allowed share of {self._max_share:g}: {reasons}.'
      f' Mend them, remove {self._directory} and run again; or raise'
      ' max_bad_share and run again to go on.'
    )


def count_rejected(
  rejected: Sequence[shards.Rejection],
) -> dict[str, corpus.RejectedCounts]:
  """Counts by reason, the commonest first, with the first five of each."""
  by_reason: dict[str, list[str]] = {}
  for rejection in rejected:
    text = f'{rejection.id}: {rejection.detail}'
    by_reason.setdefault(rejection.reason, []).append(text)
  ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
  return {
    reason: corpus.RejectedCounts(clips=len(texts), examples=tuple(texts[:5]))
    for reason, texts in ordered
  }


def _checked_refs(source: ClipSource) -> Sequence[ClipRef]:
  """The source's list, if a corpus can be made of it."""
  if not dataclasses.is_dataclass(source):
    raise ValueError(
      f'{type(source).__name__} is not a dataclass: its repr must state its'
      ' settings, so that a stopped run goes on with the same ones.'
    )
  refs = source.clips()
  if not refs:
    raise ValueError(f'{source} has no clips; look at its paths.')
  if len({ref.id for ref in refs}) < len(refs):
    raise ValueError(f'{source.name} gives one id to two clips.')
  split_of: dict[str, str] = {}
  for ref in refs:
    if split_of.setdefault(ref.group, ref.split) != ref.split:
      raise ValueError(
        f'{source.name}: group {ref.group!r} is in the splits'
        f' {split_of[ref.group]!r} and {ref.split!r}; a group has one split.'
      )
  return refs


def _plan(
  source: ClipSource,
  refs: Sequence[ClipRef],
  settings: shards.ShardSettings,
  clips_per_shard: int,
) -> dict[str, Any]:
  """What decides the bytes of a corpus, beside the program itself."""
  listing = json.dumps([dataclasses.astuple(ref) for ref in refs])
  return {
    'format_version': corpus.FORMAT_VERSION,
    'source': repr(source),
    'clips': hashlib.sha256(listing.encode()).hexdigest(),
    'clips_per_shard': clips_per_shard,
    **dataclasses.asdict(settings),
  }


def keep_plan(directory: pathlib.Path, plan: dict[str, Any]) -> None:
  """Stores the plan, or requires that it is the one the folder was begun by."""
  path = directory / PLAN_FILE
  if not path.exists():
    shards.write_json(path, plan)
    return
  begun = json.loads(path.read_text())
  differing = [
    f'{key} {begun.get(key)} (there) / {plan.get(key)} (asked for)'
    for key in {**begun, **plan}
    if begun.get(key) != plan.get(key)
  ]
  if differing:
    raise ValueError(
      f'{directory} holds another corpus: '
      + '; '.join(differing)
      + '. Choose another folder, or remove this one.'
    )


@contextlib.contextmanager
def _exclusive(directory: pathlib.Path) -> Iterator[None]:
  """Two writers in one folder would remove each other's half-written shards."""
  with open(directory / LOCK_FILE, 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
        f'Another process is writing {directory}; wait for it, or end it.'
      ) from error
    yield


def _finish(
  source: ClipSource,
  directory: pathlib.Path,
  settings: shards.ShardSettings,
  num_shards: int,
) -> corpus.CorpusInfo:
  """Index and corpus.json out of the shards' reports."""
  info = write_index(
    directory,
    shards.read_reports(directory, range(num_shards)),
    source=source.name,
    source_config=repr(source),
    sample_rate_hz=settings.sample_rate_hz,
  )
  # Last: a corpus is finished when corpus.json is there.
  shards.write_json(directory / corpus.CORPUS_FILE, info.to_json())
  logging.info('%s', info.summary())
  return info


def write_index(
  directory: pathlib.Path,
  reports: Sequence[shards.ShardReport],
  *,
  source: str,
  source_config: str,
  sample_rate_hz: int,
) -> corpus.CorpusInfo:
  """Writes the index of all shards, and adds up what their reports say."""
  splits: dict[str, corpus.SplitCounts] = {}
  rows, rejected, num_scaled = [], [], 0
  for number, report in enumerate(reports):
    first_record = 0
    for place, clip in enumerate(report.clips):
      counts = splits.get(clip.split, corpus.SplitCounts(clips=0, samples=0))
      splits[clip.split] = corpus.SplitCounts(
        clips=counts.clips + 1, samples=counts.samples + clip.num_samples
      )
      split = list(splits).index(clip.split)
      rows.append((split, number, place, first_record, clip.num_samples))
      first_record += -(-clip.num_samples // sample_rate_hz)
    rejected.extend(report.rejected)
    num_scaled += report.num_scaled
  with shards.replacing(directory / corpus.INDEX_FILE) as file:
    np.save(file, np.array(rows, corpus.INDEX_DTYPE))
  return corpus.CorpusInfo(
    source=source,
    source_config=source_config,
    sample_rate_hz=sample_rate_hz,
    num_shards=len(reports),
    splits=splits,
    rejected=count_rejected(rejected),
    num_scaled=num_scaled,
  )
