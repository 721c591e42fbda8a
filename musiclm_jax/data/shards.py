# SPDX-License-Identifier: Apache-2.0
"""One shard of a corpus: load its clips, check them, write them, all or none.

Shapes: waveform [samples], mono; a record is one second of int16 of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from array_record.python import array_record_module

from musiclm_jax.audio import resample
from musiclm_jax.data import corpus
from musiclm_jax.data.sources import Clip, ClipRef, ClipSource, RejectedClip

# Called after each clip with the seconds of audio written and whether the clip
# was rejected.
Advance = Callable[[float, bool], None]

# Ours.
MIN_SECONDS = 1.0
SILENCE_DBFS = -60.0

# One record a chunk: to read one is to read nothing else. PCM hardly
# compresses (6 % on the default corpus) and reads twice as fast without.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSettings:
  """What a clip must be, and what it is turned into.

  Attributes:
    sample_rate_hz: What every clip is resampled to.
    min_seconds: Shorter clips are rejected.
    silence_dbfs: Clips whose peak is below this are rejected.
  """

  sample_rate_hz: int
  min_seconds: float = MIN_SECONDS
  silence_dbfs: float = SILENCE_DBFS


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenClip:
  """A clip of a shard, in the order of the records."""

  id: str
  split: str
  num_samples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejection:
  """A clip that is not in the shard, and why."""

  id: str
  reason: str
  detail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardReport:
  """shard.json: what is in the shard and what is not."""

  clips: tuple[WrittenClip, ...]
  rejected: tuple[Rejection, ...]
  num_scaled: int

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> ShardReport:
    return cls(
      clips=tuple(WrittenClip(**clip) for clip in fields['clips']),
      rejected=tuple(Rejection(**clip) for clip in fields['rejected']),
      num_scaled=fields['num_scaled'],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
  """A clip as it is written.

  Attributes:
    samples: int16 [samples].
    scaled: Whether it exceeded full scale and was turned down.
  """

  samples: np.ndarray
  scaled: bool


def write_shard(
  source: ClipSource,
  refs: Sequence[ClipRef],
  *,
  directory: pathlib.Path,
  number: int,
  settings: ShardSettings,
  advance: Advance,
) -> ShardReport:
  """Writes one shard folder, complete or not at all."""
  rate_hz = settings.sample_rate_hz
  with making(directory, number) as partial:
    report = _write_clips(source, refs, partial, settings, advance)
    verify(
      partial / corpus.AUDIO_FILE,
      num_records=sum(-(-c.num_samples // rate_hz) for c in report.clips),
    )
    verify(partial / corpus.CLIPS_FILE, num_records=len(report.clips))
    write_json(partial / corpus.SHARD_FILE, dataclasses.asdict(report))
  return report


@contextlib.contextmanager
def making(directory: pathlib.Path, number: int) -> Iterator[pathlib.Path]:
  """A hidden folder that becomes shard `number` if the block ends well."""
  partial = _partial(directory, number)
  try:
    partial.mkdir()
    yield partial
    os.replace(partial, directory / corpus.shard_name(number))
  except BaseException as error:
    shutil.rmtree(partial, ignore_errors=True)
    _tell_full_disk(error, directory, place=f'shard {number} of {directory}')
    raise


def _tell_full_disk(
  error: BaseException, directory: pathlib.Path, *, place: str
) -> None:
  """Raises a clearer error if `error` is that of a full disk."""
  if _is_disk_full(error):
    free = shutil.disk_usage(directory).free / 2**20
    raise OSError(
      f'The disk is full ({free:.0f} MiB free) at {place}. Complete shards are'
      ' kept: make room and run again.'
    ) from error


def _is_disk_full(error: BaseException) -> bool:
  codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
  # array_record raises RuntimeError with the system's words.
  return isinstance(error, OSError | RuntimeError) and (
    getattr(error, 'errno', None) in codes
    or any(os.strerror(code) in str(error) for code in codes)
  )


def load(source: ClipSource, ref: ClipRef) -> Clip:
  """Loads a clip; whatever a decoder or parser throws is a `RejectedClip`."""
  try:
    return source.load(ref)
  except (RejectedClip, MemoryError):
    raise
  # Decoders and parsers of a hundred formats raise anything at all.
  except Exception as error:
    raise RejectedClip(
      'unreadable', f'{type(error).__name__}: {error}'
    ) from error


def prepare(clip: Clip, *, settings: ShardSettings) -> Prepared:
  """Checks a clip, resamples it and rounds it to int16.

  Raises:
    RejectedClip: Not finite, too short or silent.
  """
  waveform = clip.waveform
  if not np.isfinite(waveform).all():
    bad = np.count_nonzero(~np.isfinite(waveform))
    raise RejectedClip('not finite', f'{bad} samples are NaN or infinite')
  seconds = len(waveform) / clip.sample_rate_hz
  if seconds < settings.min_seconds:
    raise RejectedClip(
      'too short', f'{seconds:.3f} s of at least {settings.min_seconds:g} s'
    )
  waveform = resample.resample(
    waveform, from_hz=clip.sample_rate_hz, to_hz=settings.sample_rate_hz
  )
  peak = float(np.max(np.abs(waveform)))
  if peak < 10 ** (settings.silence_dbfs / 20):
    raise RejectedClip(
      'silent', f'peak {peak:.2g} is below {settings.silence_dbfs:g} dBFS'
    )
  # Lossy decoders and resampling overshoot full scale; clipping would distort.
  if peak > 1:
    waveform = waveform / np.float32(peak)
  full_scale = np.iinfo(np.int16).max
  samples = np.round(waveform * corpus.FULL_SCALE).clip(-full_scale, full_scale)
  return Prepared(samples=samples.astype('<i2'), scaled=peak > 1)


def is_complete(directory: pathlib.Path, number: int) -> bool:
  return (directory / corpus.shard_name(number)).is_dir()


def remove_partial(directory: pathlib.Path, number: int) -> None:
  """Removes what a killed run left of a shard."""
  shutil.rmtree(_partial(directory, number), ignore_errors=True)


def read_reports(
  directory: pathlib.Path, numbers: Iterable[int]
) -> list[ShardReport]:
  """Of those shards that are complete."""
  return [
    ShardReport.from_json(
      json.loads(
        (directory / corpus.shard_name(number) / corpus.SHARD_FILE).read_text()
      )
    )
    for number in numbers
    if is_complete(directory, number)
  ]


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """A file that takes the place of `path` when it is complete."""
  partial = path.with_name(f'.{path.name}.partial')
  try:
    with open(partial, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  except BaseException as error:
    _tell_full_disk(error, path.parent, place=str(path))
    raise
  finally:
    partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, fields: dict[str, Any]) -> None:
  with replacing(path) as file:
    file.write(json.dumps(fields, indent=1, allow_nan=False).encode())


def _write_clips(
  source: ClipSource,
  refs: Sequence[ClipRef],
  partial: pathlib.Path,
  settings: ShardSettings,
  advance: Advance,
) -> ShardReport:
  """Writes the records of every good clip and says what came of all."""
  written, rejected, num_scaled = [], [], 0
  with (
    records(partial / corpus.AUDIO_FILE) as audio,
    records(partial / corpus.CLIPS_FILE) as clips,
  ):
    for ref in refs:
      try:
        clip = load(source, ref)
        prepared = prepare(clip, settings=settings)
        description = _describe(ref, clip)
      except RejectedClip as error:
        rejected.append(
          Rejection(id=ref.id, reason=error.reason, detail=error.detail)
        )
        advance(0.0, True)
        continue
      for second in _seconds(prepared.samples, settings.sample_rate_hz):
        audio.write(second)
      clips.write(description)
      num_samples = len(prepared.samples)
      num_scaled += prepared.scaled
      written.append(
        WrittenClip(id=ref.id, split=ref.split, num_samples=num_samples)
      )
      advance(num_samples / settings.sample_rate_hz, False)
  return ShardReport(
    clips=tuple(written), rejected=tuple(rejected), num_scaled=num_scaled
  )


def _describe(ref: ClipRef, clip: Clip) -> bytes:
  """The clip's record in CLIPS_FILE."""
  fields = {
    'id': ref.id,
    'group': ref.group,
    'captions': list(clip.captions),
    'facts': dict(clip.facts),
  }
  try:
    return json.dumps(fields, allow_nan=False).encode()
  except (TypeError, ValueError) as error:
    raise RejectedClip('facts are not JSON', str(error)) from error


def _seconds(samples: np.ndarray, sample_rate_hz: int) -> Iterator[bytes]:
  """One record a second, the last one padded with zeros."""
  padding = -len(samples) % sample_rate_hz
  for second in np.pad(samples, (0, padding)).reshape(-1, sample_rate_hz):
    yield second.tobytes()


@contextlib.contextmanager
def records(
  path: pathlib.Path,
) -> Iterator[array_record_module.ArrayRecordWriter]:
  """A writer that is closed, and on disk, when the block ends well."""
  writer = array_record_module.ArrayRecordWriter(
    str(path), options=_WRITER_OPTIONS
  )
  try:
    yield writer
  except BaseException:
    # Closed in any case: an open writer aborts the process as it is freed.
    with contextlib.suppress(RuntimeError):
      writer.close()
    raise
  writer.close()
  with open(path, 'rb') as file:
    os.fsync(file.fileno())


def verify(path: pathlib.Path, *, num_records: int) -> None:
  """A full disk may show only here: a cut file reads as an empty one."""
  reader = array_record_module.ArrayRecordReader(str(path))
  if reader.num_records() != num_records:
    raise OSError(
      f'{path} holds {reader.num_records()} records after {num_records} were'
      ' written; is the disk full or failing?'
    )


def _partial(directory: pathlib.Path, number: int) -> pathlib.Path:
  return directory / f'.{corpus.shard_name(number)}.partial'
