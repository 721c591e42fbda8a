# SPDX-License-Identifier: Apache-2.0
"""A corpus of codes on disk, read by index: one second of codes a record.

    <corpus>/
      token_corpus.json        streams with fingerprints, counts, what was rejected
      index.npy                one row a clip, as of an audio corpus
      usage.npz                by stream: how often each level used each code
      codebooks.npz            by stream: the vectors that its codes stand for
      shard-00000/
        codes.array_record     one second of every stream a record
        clips.array_record     one clip a record: id, group, captions, facts
        shard.json  usage.npz  of this shard

A record holds the second's frames of each stream with a rate and, for each
stream without one (MuLan), the codes of every window length that starts at that
second: a crop that starts on a whole second is looked up, never computed. The
order of the streams is that of token_corpus.json. Codes are uint16.

Shapes: codes [frames, levels]. A *clip number* is a row of the index.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
import json
import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from musiclm_jax.data import corpus, folders
from musiclm_jax.stages import deduplication
from musiclm_jax.streams import Exact, TokenStream

FORMAT_VERSION = 1
TOKENS_FILE = 'token_corpus.json'
CODES_FILE = 'codes.array_record'
USAGE_FILE = 'usage.npz'
CODEBOOKS_FILE = 'codebooks.npz'
CODE_DTYPE = np.dtype('<u2')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCorpusInfo:
  """What token_corpus.json says.

  Attributes:
    audio: Source, rate and counts, as of an audio corpus of the clips that are
      here. `rejected` holds what could not be tokenized.
    streams: In the order of a record, with the fingerprints that made them.
    condition_seconds: Window lengths that streams without a rate are for.
  """

  audio: corpus.CorpusInfo
  streams: tuple[TokenStream, ...]
  condition_seconds: tuple[int, ...]

  @property
  def record(self) -> RecordLayout:
    return RecordLayout(
      streams=self.streams, condition_seconds=self.condition_seconds
    )

  def summary(self) -> str:
    """What is there and what was rejected, then a line for each stream."""
    lines = [self.audio.summary()]
    for stream in self.streams:
      rate = (
        f'windows of {", ".join(map(str, self.condition_seconds))} s'
        if stream.rate_hz is None
        else f'{stream.rate_hz} Hz'
      )
      lines.append(
        f'{stream.name}: {stream.num_codebooks} × {stream.codebook_size} codes,'
        f' {rate}, of {stream.fingerprint}'
      )
    return '\n'.join(lines)

  def to_json(self) -> dict[str, Any]:
    return {
      'format_version': FORMAT_VERSION,
      'streams': [stream.to_json() for stream in self.streams],
      'condition_seconds': list(self.condition_seconds),
      'audio': self.audio.to_json(),
    }

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> TokenCorpusInfo:
    return cls(
      audio=corpus.CorpusInfo.from_json(fields['audio']),
      streams=tuple(map(TokenStream.from_json, fields['streams'])),
      condition_seconds=tuple(fields['condition_seconds']),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordLayout:
  """Where each stream's codes are in a record.

  Attributes:
    streams: In their order.
    condition_seconds: Window lengths of the streams without a rate.
  """

  streams: tuple[TokenStream, ...]
  condition_seconds: tuple[int, ...]

  def __post_init__(self):
    for stream in self.streams:
      stream.num_frames(1)  # A second must hold whole frames.
      if stream.codebook_size > np.iinfo(CODE_DTYPE).max + 1:
        raise ValueError(
          f'{stream.name!r} has {stream.codebook_size} codes a level; a token'
          f' corpus holds codes below {np.iinfo(CODE_DTYPE).max + 1}.'
        )
      if stream.rate_hz is None and not self.condition_seconds:
        raise ValueError(
          f'{stream.name!r} has no rate; say for which window lengths, in'
          ' seconds, its codes are wanted.'
        )

  def rows_a_second(self, stream: TokenStream) -> int:
    """Frames of a stream in a record, or windows if it has no rate."""
    if stream.rate_hz is None:
      return len(self.condition_seconds)
    return stream.num_frames(1)

  def code_shape(self, stream: TokenStream, num_rows: int) -> tuple[int, ...]:
    """Of a clip's codes: `num_rows` counts frames, or seconds without a rate."""
    if stream.rate_hz is None:
      return num_rows, len(self.condition_seconds), stream.num_codebooks
    return num_rows, stream.num_codebooks

  def write(self, codes: Mapping[str, Int[np.ndarray, '*axes']]) -> list[bytes]:
    """The records of a clip, the frames of its last second padded with 0.

    Args:
      codes: Of each stream, of `code_shape`.
    """
    parts = []
    for stream in self.streams:
      rows = codes[stream.name].reshape(-1, stream.num_codebooks)
      seconds = -(-len(rows) // self.rows_a_second(stream))
      padding = seconds * self.rows_a_second(stream) - len(rows)
      rows = np.pad(rows, ((0, padding), (0, 0)))
      parts.append(rows.reshape(seconds, -1).astype(CODE_DTYPE))
    # A last second without one whole frame of a stream still has its record.
    seconds = max(map(len, parts))
    parts = [np.pad(p, ((0, seconds - len(p)), (0, 0))) for p in parts]
    return [record.tobytes() for record in np.concatenate(parts, axis=1)]

  def read(
    self, records: Sequence[bytes]
  ) -> dict[str, Int[np.ndarray, 'rows levels']]:
    """The frames, or the windows of each second in turn, by stream."""
    table = np.frombuffer(b''.join(records), CODE_DTYPE).astype(np.int32)
    sizes = [self.rows_a_second(s) * s.num_codebooks for s in self.streams]
    columns = np.split(
      table.reshape(len(records), sum(sizes)), np.cumsum(sizes)[:-1], axis=1
    )
    return {
      stream.name: column.reshape(-1, stream.num_codebooks)
      for stream, column in zip(self.streams, columns)
    }


class TokenCorpus:
  """Reads a finished token corpus by clip number; threads may share it.

  Attributes:
    info: What token_corpus.json says.
    streams: By name.
    index: One row a clip, of `corpus.INDEX_DTYPE`, mapped from disk.
  """

  def __init__(self, directory: str | pathlib.Path):
    self._directory = folders.local(directory)
    self.info = read_info(self._directory)
    self.streams = {stream.name: stream for stream in self.info.streams}
    self.index = corpus.read_index(self._directory, info=self.info.audio)
    self._files = corpus.OpenFiles()

  def clips(self, split: str) -> Int[np.ndarray, ' clips']:
    """Clip numbers of a split, in the order of the source."""
    return corpus.clips_of(
      split, index=self.index, info=self.info.audio, directory=self._directory
    )

  def describe(self, clip: corpus.ClipNumber) -> corpus.Description:
    """Id, group, captions and facts of a clip."""
    row = self.index[clip]
    path = self._file(row, corpus.CLIPS_FILE)
    return corpus.read_description(self._files, path, place=int(row['place']))

  def num_seconds(self, clip: corpus.ClipNumber) -> fractions.Fraction:
    """The length of a clip, exactly."""
    return corpus.num_seconds(
      self.index[clip], sample_rate_hz=self.info.audio.sample_rate_hz
    )

  def read(
    self,
    clip: corpus.ClipNumber,
    *,
    start_second: int,
    window_seconds: Exact,
    streams: Collection[str],
  ) -> dict[str, Int[np.ndarray, 'frames levels']]:
    """The codes of one window: those whole frames that the clip has.

    A stream without a rate has one frame.
    """
    window = fractions.Fraction(str(window_seconds))
    left = self.num_seconds(clip) - start_second
    if start_second < 0 or left <= 0 or window <= 0:
      raise ValueError(
        f'A window of {window_seconds} s at second {start_second} is outside'
        f' clip {clip}, which has {float(self.num_seconds(clip)):g}.'
      )
    row = self.index[clip]
    first = int(row['first_record']) + start_second
    records = range(first, first + math.ceil(min(window, left)))
    read = self.info.record.read(
      self._files.read(self._file(row, CODES_FILE), records)
    )
    crop = {}
    for name in streams:
      stream = self.streams[name]
      if stream.rate_hz is None:
        crop[name] = read[name][[self.condition_index(window)]]
      else:
        crop[name] = read[name][: whole_frames(min(window, left), stream)]
    return crop

  def condition_index(self, window_seconds: Exact) -> int:
    """Which of `condition_seconds` a window is looked up in.

    A window shorter than all of them is conditioned as the shortest (ours: a
    conditioner hears no less than its own window).
    """
    window = fractions.Fraction(str(window_seconds))
    known = self.info.condition_seconds
    if window in known:
      return known.index(window)
    if window < min(known):
      return known.index(min(known))
    raise ValueError(
      f'{self._directory} holds the conditions of windows of'
      f' {", ".join(map(str, known))} s, not of {float(window):g} s; tokenize'
      ' it again with --windows that name it.'
    )

  def _file(self, row: np.void, name: str) -> pathlib.Path:
    return self._directory / corpus.shard_name(int(row['shard'])) / name


def whole_frames(seconds: fractions.Fraction, stream: TokenStream) -> int:
  """Frames of a stream that end within `seconds`; 1 if it has no rate."""
  return 1 if stream.rate_hz is None else math.floor(seconds * stream.rate_hz)


def stream(corpus_dir: str | pathlib.Path, *, name: str) -> TokenStream:
  """One stream of a token corpus, with the fingerprint that made it.

  Raises:
    ValueError: The corpus is not finished, or lacks the stream.
  """
  info = read_info(corpus_dir)
  for found in info.streams:
    if found.name == name:
      return found
  raise ValueError(
    f'{corpus_dir} has no stream {name!r}; it has'
    f' {", ".join(found.name for found in info.streams)}. Tokenize a corpus'
    ' with a model that makes it.'
  )


@functools.cache
def distinct_share(
  corpus_dir: str | pathlib.Path, *, name: str, num_clips: int = 1000
) -> fractions.Fraction:
  """The share of frames that begin a run of one code, in the training split.

  Args:
    corpus_dir: The token corpus.
    name: The stream, of one codebook.
    num_clips: So many clips are read, spread over the split.
  """
  corpus_dir = str(corpus_dir)
  stream(corpus_dir, name=name)  # Or an error that says which there are.
  tokens = TokenCorpus(corpus_dir)
  clips = tokens.clips('train')
  return deduplication.distinct_share(
    tokens.read(
      clip,
      start_second=0,
      window_seconds=tokens.num_seconds(clip),
      streams=(name,),
    )[name][:, 0]
    for clip in clips[:: -(-len(clips) // num_clips)]
  )


def read_info(directory: str | pathlib.Path) -> TokenCorpusInfo:
  """token_corpus.json of a finished corpus; a clear error for anything else."""
  path = folders.local(directory) / TOKENS_FILE
  if not path.exists():
    raise ValueError(
      f'{directory} holds no finished token corpus: there is no {TOKENS_FILE}.'
      ' Run `musiclm tokenize` with it as the output; it goes on where it'
      ' stopped.'
    )
  fields = json.loads(path.read_text())
  version = fields.get('format_version')
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path} is version {version}; this program reads version'
      f' {FORMAT_VERSION}. Tokenize the corpus again.'
    )
  return TokenCorpusInfo.from_json(fields)


def read_usage(
  directory: str | pathlib.Path,
) -> dict[str, Int[np.ndarray, 'levels codes']]:
  """How often each level of each stream used each code."""
  with np.load(pathlib.Path(directory).expanduser() / USAGE_FILE) as file:
    return {name: file[name] for name in file}


@functools.cache
def codebooks(
  corpus_dir: str | pathlib.Path,
) -> dict[str, Float[np.ndarray, 'levels codes dim']]:
  """The vectors that the codes of each stream stand for, where they do.

  Raises:
    ValueError: The corpus is not finished, or was written without them.
  """
  read_info(corpus_dir)  # Or an error that says what is missing.
  path = folders.local(corpus_dir) / CODEBOOKS_FILE
  if not path.exists():
    raise ValueError(
      f'{corpus_dir} keeps no {CODEBOOKS_FILE}: it was written before there was'
      ' one. Give the command that tokenized it once more, which adds it, or'
      ' train with --gin.objective.StageObjective.codebooks="{}".'
    )
  with np.load(path) as file:
    return {name: file[name] for name in file}
