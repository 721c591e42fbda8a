# SPDX-License-Identifier: Apache-2.0
"""Audio corpus × encoder → token corpus, by any number of processes.

Shard k holds the codes of the clips [k * clips_per_shard, (k + 1) *
clips_per_shard) of the audio corpus, and process i of n writes the shards i,
i + n, i + 2 n … A shard is there or it is not; a run that was stopped goes on
with those that are missing, with the same models or not at all. Whoever
completes the last one writes the index.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from absl import logging

from musiclm_jax.data import (
  corpus,
  folders,
  shards,
  token_corpus,
  token_shards,
  writer,
)
from musiclm_jax.data import progress as progress_lib

# MusicLM (Agostinelli et al., 2023), section 3.2: windows of the semantic stage
# and of the coarse one.
CONDITION_SECONDS = (30, 10)

# Bytes of the lock file that stand for the plan and the index, and for shard 0.
_PLAN, _FIRST_SHARD = 0, 1


def write_token_corpus(
  audio: corpus.AudioCorpus,
  encoder: token_shards.ClipEncoder,
  directory: str | pathlib.Path,
  *,
  condition_seconds: Sequence[int] = CONDITION_SECONDS,
  max_clips: int | None = None,
  max_bad_share: float = writer.MAX_BAD_SHARE,
  clips_per_shard: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  show_progress: bool = True,
) -> token_corpus.TokenCorpusInfo | None:
  """Writes this process's share, or what a stopped run has left of it.

  Args:
    audio: What is encoded.
    encoder: Makes the codes.
    directory: Of the token corpus, on a disk that all processes share.
    condition_seconds: Window lengths of the streams without a rate.
    max_clips: The first ones alone; all of them if left out.
    max_bad_share: More rejected clips than this share of all end the run.
    clips_per_shard: 32 if left out, or fewer where that makes less than 64
      shards to share.
    process_index: Of this process.
    process_count: How many share the work.
    show_progress: Draws a bar on the terminal.

  Returns:
    What token_corpus.json says if every shard is complete, else None.

  Raises:
    ValueError: Too many bad clips; or the folder holds another corpus, or the
      codes of other models.
    OSError: The disk is full. Complete shards are kept.
  """
  if not 0 <= process_index < process_count:
    raise ValueError(f'Process {process_index} is not of {process_count}.')
  clips = range(len(audio.index))[:max_clips]
  if not clips:
    raise ValueError(f'{max_clips} clips are to be tokenized; at least 1.')
  if clips_per_shard is None:
    clips_per_shard = writer.default_clips_per_shard(len(clips))
  parts = dict(enumerate(_split(clips, clips_per_shard)))
  work = token_shards.Work(
    audio=audio,
    encoder=encoder,
    directory=folders.local(directory),
    record=token_corpus.RecordLayout(
      streams=tuple(encoder.streams), condition_seconds=tuple(condition_seconds)
    ),
  )
  work.directory.mkdir(parents=True, exist_ok=True)
  with open(work.directory / writer.LOCK_FILE, 'ab') as lock:
    with _held(lock, _PLAN, waits=True):
      plan = _plan(work, num_clips=len(clips), clips_per_shard=clips_per_shard)
      writer.keep_plan(work.directory, plan)
      _keep_codebooks(work)
    _write_share(
      work,
      {n: parts[n] for n in range(process_index, len(parts), process_count)},
      lock=lock,
      bad=writer.BadClips(
        audio.info.source,
        directory=work.directory,
        num_clips=len(clips),
        max_share=max_bad_share,
      ),
      show_progress=show_progress,
    )
    with _held(lock, _PLAN, waits=True):
      return _finish(work, num_shards=len(parts))


def _split(clips: range, size: int) -> list[range]:
  return [clips[first : first + size] for first in range(0, len(clips), size)]


def _plan(
  work: token_shards.Work, *, num_clips: int, clips_per_shard: int
) -> dict[str, Any]:
  """What decides the bytes of the corpus, beside the program itself."""
  index = np.ascontiguousarray(work.audio.index[:num_clips]).tobytes()
  return {
    'format_version': token_corpus.FORMAT_VERSION,
    'source': work.audio.info.source_config,
    'sample_rate_hz': work.audio.sample_rate_hz,
    'clips': hashlib.sha256(index).hexdigest(),
    'clips_per_shard': clips_per_shard,
    'windows': list(work.record.condition_seconds),
    **{
      f'{stream.name} codes': '{num_codebooks} × {codebook_size} at {rate_hz}'
      ' Hz of {fingerprint}'.format(**stream.to_json())
      for stream in work.record.streams
    },
  }


def _keep_codebooks(work: token_shards.Work) -> None:
  """Writes what codes stand for, to a finished corpus from before too."""
  path = work.directory / token_corpus.CODEBOOKS_FILE
  if not path.exists():
    with shards.replacing(path) as file:
      np.savez(file, **work.encoder.codebooks)


def _write_share(
  work: token_shards.Work,
  share: Mapping[int, range],
  *,
  lock: IO[bytes],
  bad: writer.BadClips,
  show_progress: bool,
) -> None:
  """Writes those shards of `share` that are missing."""
  with (
    contextlib.ExitStack() as claims,
    progress_lib.bar(
      title=work.audio.info.source,
      num_clips=sum(map(len, share.values())),
      visible=show_progress,
    ) as bar,
  ):
    for number in share:
      claims.enter_context(_held(lock, _FIRST_SHARD + number, waits=False))
      for report in shards.read_reports(work.directory, [number]):
        bar.resume(report)
        bad.add(report)
    for number, clips in share.items():
      if not shards.is_complete(work.directory, number):
        shards.remove_partial(work.directory, number)
        bad.add(
          token_shards.write_shard(
            work, clips, number=number, advance=bar.advance
          )
        )


@contextlib.contextmanager
def _held(lock: IO[bytes], byte: int, *, waits: bool) -> Iterator[None]:
  """Locks one byte of the file against other processes.

  By bytes, since every process holds its own shards: two that wrote one shard
  would remove each other's half of it.
  """
  try:
    how = fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB)
    fcntl.lockf(lock, how, 1, byte)
  except (BlockingIOError, PermissionError) as error:
    raise ValueError(
      f'Another process is writing shard {byte - _FIRST_SHARD} of'
      f' {pathlib.Path(lock.name).parent}; wait for it, or end it.'
    ) from error
  try:
    yield
  finally:
    fcntl.lockf(lock, fcntl.LOCK_UN, 1, byte)


def _finish(
  work: token_shards.Work, *, num_shards: int
) -> token_corpus.TokenCorpusInfo | None:
  """Writes index, usage and token_corpus.json if every shard is complete."""
  directory = work.directory
  if (directory / token_corpus.TOKENS_FILE).exists():
    return token_corpus.read_info(directory)
  reports = shards.read_reports(directory, range(num_shards))
  if len(reports) < num_shards:
    logging.info(
      '%s: %d of %d shards are complete; other processes have the rest.',
      directory,
      len(reports),
      num_shards,
    )
    return None
  audio = writer.write_index(
    directory,
    reports,
    source=work.audio.info.source,
    source_config=work.audio.info.source_config,
    sample_rate_hz=work.audio.sample_rate_hz,
  )
  usages = [
    token_corpus.read_usage(directory / corpus.shard_name(number))
    for number in range(num_shards)
  ]
  token_shards.write_usage(
    directory,
    {name: sum(usage[name] for usage in usages) for name in usages[0]},
  )
  info = token_corpus.TokenCorpusInfo(
    audio=audio,
    streams=work.record.streams,
    condition_seconds=work.record.condition_seconds,
  )
  # Last: a corpus is finished when token_corpus.json is there.
  shards.write_json(directory / token_corpus.TOKENS_FILE, info.to_json())
  return info
