# SPDX-License-Identifier: Apache-2.0
"""A corpus on disk, read by index: short records, so a crop reads its seconds.

    <corpus>/
      corpus.json              format, source, rate, counts, what was rejected
      index.npy                one row a clip: where its records are
      shard-00000/
        audio.array_record     one second of int16 mono PCM a record; the last
                               one of a clip is padded with zeros
        clips.array_record     one clip a record: id, group, captions, facts
        shard.json             what was written and what was rejected, and why

A corpus of codes (token_corpus.py) has the same shards and index, with one
second of codes a record in place of PCM. Reading wants NumPy and array_record,
no TensorFlow.

Shapes: waveform [samples]. A *clip number* is a row of the index.
"""

from __future__ import annotations

import collections
import dataclasses
import fractions
import json
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from array_record.python import array_record_module
from jaxtyping import Float32, Int, Int16

from musiclm_jax.data import folders

ClipNumber = int | np.integer

FORMAT_VERSION = 1
ENCODING = 'pcm_s16le'
CORPUS_FILE = 'corpus.json'
INDEX_FILE = 'index.npy'
AUDIO_FILE = 'audio.array_record'
CLIPS_FILE = 'clips.array_record'
SHARD_FILE = 'shard.json'

# `split` counts into CorpusInfo.splits; `place` is the clip's record in
# CLIPS_FILE of its shard, `first_record` its first second in AUDIO_FILE.
INDEX_DTYPE = np.dtype(
  [
    ('split', '<u2'),
    ('shard', '<u4'),
    ('place', '<u4'),
    ('first_record', '<u4'),
    ('num_samples', '<i8'),
  ]
)

# int16 full scale; dividing by 2**15 is exact in float32.
FULL_SCALE = 2.0**15

# Random access: read just the record that is asked for. An open shard costs a
# file handle and its footer, so a corpus of many shards keeps the last used.
_READER_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'
_READER_BUFFER_BYTES = 2**16
_MAX_OPEN_FILES = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitCounts:
  """Clips and samples of one split."""

  clips: int
  samples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectedCounts:
  """How many clips one reason cost, and the first few as 'id: detail'."""

  clips: int
  examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusInfo:
  """What corpus.json says.

  Attributes:
    source: Name of the data set.
    source_config: The data set with every setting, for the reader.
    sample_rate_hz: Of every clip.
    num_shards: Folders of records.
    splits: Counts by split, in the order that the index refers to.
    rejected: Counts by reason.
    num_scaled: Clips that were turned down because they exceeded full scale.
    format_version: Of the files.
    encoding: Of a record.
  """

  source: str
  source_config: str
  sample_rate_hz: int
  num_shards: int
  splits: Mapping[str, SplitCounts]
  rejected: Mapping[str, RejectedCounts]
  num_scaled: int
  format_version: int = FORMAT_VERSION
  encoding: str = ENCODING

  @property
  def num_clips(self) -> int:
    return sum(counts.clips for counts in self.splits.values())

  @property
  def num_rejected(self) -> int:
    return sum(counts.clips for counts in self.rejected.values())

  @property
  def hours(self) -> float:
    samples = sum(counts.samples for counts in self.splits.values())
    return samples / self.sample_rate_hz / 3600

  def summary(self) -> str:
    """One line: what is there and what was rejected."""
    line = (
      f'{self.source}: {self.num_clips:,} clips, {self.hours:.2f} h at'
      f' {self.sample_rate_hz} Hz in {self.num_shards} shards'
    )
    if self.num_scaled:
      line += f', {self.num_scaled:,} turned down to full scale'
    offered = self.num_clips + self.num_rejected
    line += f'; rejected {self.num_rejected:,} of {offered:,}'
    if self.rejected:
      line += ': ' + ', '.join(
        f'{counts.clips:,} {reason}' for reason, counts in self.rejected.items()
      )
    return line + '.'

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> CorpusInfo:
    splits = {k: SplitCounts(**v) for k, v in fields['splits'].items()}
    rejected = {
      k: RejectedCounts(clips=v['clips'], examples=tuple(v['examples']))
      for k, v in fields['rejected'].items()
    }
    return cls(**{**fields, 'splits': splits, 'rejected': rejected})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What is known of one clip beside its audio."""

  id: str
  group: str
  captions: tuple[str, ...]
  facts: Mapping[str, Any]


class AudioCorpus:
  """Reads a finished corpus by clip number. Safe to share between threads.

  Attributes:
    info: What corpus.json says.
    index: One row a clip, of `INDEX_DTYPE`, mapped from disk.
  """

  def __init__(self, directory: str | pathlib.Path):
    self._directory = folders.local(directory)
    self.info = read_info(self._directory)
    self.index = read_index(self._directory, info=self.info)
    self._files = OpenFiles()

  @property
  def sample_rate_hz(self) -> int:
    return self.info.sample_rate_hz

  def clips(self, split: str) -> Int[np.ndarray, ' clips']:
    """Clip numbers of a split, in the order of the source."""
    return clips_of(
      split, index=self.index, info=self.info, directory=self._directory
    )

  def read(
    self, clip: ClipNumber, *, start: int, num_samples: int
  ) -> Int16[np.ndarray, ' samples']:
    """`num_samples` of a clip, from sample `start`; zeros past its end."""
    row = self.index[clip]
    end = min(start + num_samples, int(row['num_samples']))
    samples = np.zeros(num_samples, np.int16)
    if start < 0 or end <= start:
      raise ValueError(
        f'Sample {start} is outside clip {clip}, which has'
        f' {row["num_samples"]}.'
      )
    rate = self.info.sample_rate_hz
    first, last = start // rate, -(-end // rate)
    base = int(row['first_record'])
    records = self._files.read(
      self._file(row, AUDIO_FILE), range(base + first, base + last)
    )
    pcm = np.frombuffer(b''.join(records), '<i2')
    samples[: end - start] = pcm[start - first * rate : end - first * rate]
    return samples

  def waveform(self, clip: ClipNumber) -> Float32[np.ndarray, ' samples']:
    """The whole clip, in [-1, 1]."""
    samples = self.read(
      clip, start=0, num_samples=int(self.index[clip]['num_samples'])
    )
    return samples.astype(np.float32) / np.float32(FULL_SCALE)

  def describe(self, clip: ClipNumber) -> Description:
    """Id, group, captions and facts of a clip."""
    row = self.index[clip]
    path = self._file(row, CLIPS_FILE)
    return read_description(self._files, path, place=int(row['place']))

  def _file(self, row: np.void, name: str) -> pathlib.Path:
    return self._directory / shard_name(int(row['shard'])) / name


class OpenFiles:
  """Record files by path, the last used kept open; threads may share it."""

  def __init__(self):
    self._readers = collections.OrderedDict()
    self._lock = threading.Lock()

  def read(self, path: pathlib.Path, records: range) -> list[bytes]:
    """Some records of a file."""
    try:
      reader, lock = self._reader(path)
      # A file that was cut has lost its footer, and passes for an empty one.
      if records.stop > reader.num_records():
        raise IndexError(f'it seems to hold {reader.num_records()}')
      with lock:
        return reader.read(list(records))
    except (IndexError, RuntimeError, ValueError) as error:
      raise ValueError(
        f'{path} is damaged: records {records.start} to {records.stop} cannot'
        f' be read ({error}). Remove its folder and prepare the corpus again.'
      ) from error

  def _reader(self, path: pathlib.Path) -> tuple[Any, threading.Lock]:
    """A reader keeps a position, so each comes with a lock."""
    with self._lock:
      entry = self._readers.pop(path, None)
      if entry is None:
        reader = array_record_module.ArrayRecordReader(
          str(path),
          options=_READER_OPTIONS,
          file_reader_buffer_size=_READER_BUFFER_BYTES,
        )
        entry = (reader, threading.Lock())
      self._readers[path] = entry
      while len(self._readers) > _MAX_OPEN_FILES:
        self._readers.popitem(last=False)
      return entry

  # Readers are reopened where the corpus is unpickled.
  def __getstate__(self) -> dict[str, Any]:
    return {}

  def __setstate__(self, state: dict[str, Any]):
    self.__init__()


def shard_name(number: int) -> str:
  return f'shard-{number:05d}'


def read_index(directory: pathlib.Path, *, info: CorpusInfo) -> np.ndarray:
  """One row a clip, of `INDEX_DTYPE`, mapped from disk."""
  path = directory / INDEX_FILE
  index = np.load(path, mmap_mode='r')
  if index.dtype != INDEX_DTYPE or len(index) != info.num_clips:
    raise ValueError(
      f'{path} has {len(index)} rows of {index.dtype}, but the corpus counts'
      f' {info.num_clips} clips; write it again.'
    )
  return index


def clips_of(
  split: str, *, index: np.ndarray, info: CorpusInfo, directory: pathlib.Path
) -> Int[np.ndarray, ' clips']:
  """Clip numbers of a split, in the order of the source."""
  if split not in info.splits:
    raise ValueError(
      f'{directory} has no split {split!r}; it has'
      f' {", ".join(info.splits) or "no clips at all"}.'
    )
  return np.flatnonzero(index['split'] == list(info.splits).index(split))


def num_seconds(row: np.void, *, sample_rate_hz: int) -> fractions.Fraction:
  """The length of a clip, exactly, from its row of the index."""
  return fractions.Fraction(int(row['num_samples']), sample_rate_hz)


def read_description(
  files: OpenFiles, path: pathlib.Path, *, place: int
) -> Description:
  """Record `place` of a CLIPS_FILE."""
  (record,) = files.read(path, range(place, place + 1))
  fields = json.loads(record)
  return Description(**{**fields, 'captions': tuple(fields['captions'])})


def read_info(directory: str | pathlib.Path) -> CorpusInfo:
  """corpus.json of a finished corpus; a clear error for anything else."""
  path = pathlib.Path(directory) / CORPUS_FILE
  if not path.exists():
    raise ValueError(
      f'{directory} holds no finished corpus: there is no {CORPUS_FILE}. Run'
      ' `musiclm data prepare` with it as the output; it goes on where it'
      ' stopped.'
    )
  fields = json.loads(path.read_text())
  version = fields.get('format_version')
  if (version, fields.get('encoding')) != (FORMAT_VERSION, ENCODING):
    raise ValueError(
      f'{path} is version {version} ({fields.get("encoding")}); this program'
      f' reads version {FORMAT_VERSION} ({ENCODING}). Prepare the corpus again.'
    )
  return CorpusInfo.from_json(fields)
