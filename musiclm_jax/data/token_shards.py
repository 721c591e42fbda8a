# SPDX-License-Identifier: Apache-2.0
"""One shard of a token corpus: encode its clips and write them, all or none.

What makes the codes is handed in as a `ClipEncoder`: this package knows no
model. Shapes: waveform [samples], codes [frames, levels].
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from musiclm_jax.data import corpus, shards, token_corpus
from musiclm_jax.data.sources import RejectedClip
from musiclm_jax.streams import TokenStream

# Codes of one clip by stream: [frames, levels], or [seconds, windows, levels]
# of a stream without a rate.
ClipCodes = Mapping[str, Int[np.ndarray, '*axes']]


@runtime_checkable
class ClipEncoder(Protocol):
  """What makes the codes of a clip; `tokenization` has one.

  Attributes:
    streams: The codes it makes, with the fingerprints of their models.
    codebooks: [levels, codes, dim] of the streams whose codes stand for vectors,
      by name; for the corpus to keep.
  """

  streams: Sequence[TokenStream]
  codebooks: Mapping[str, Float32[np.ndarray, 'levels codes dim']]

  def encode(
    self,
    waveform: Float32[np.ndarray, ' samples'],
    *,
    sample_rate_hz: int,
    condition_seconds: Sequence[int],
  ) -> ClipCodes:
    """The codes of one clip, by stream.

    [frames, levels] of at least every whole frame, and [seconds, windows,
    levels] of a stream without a rate: for each second that has begun and each
    window length, the codes of the window that starts there.

    Raises:
      RejectedClip: The clip has no codes; it is counted.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What is encoded, by what, and where to.

  Attributes:
    audio: The clips.
    encoder: Makes their codes.
    directory: Of the token corpus.
    record: Of its records; its streams are the encoder's.
  """

  audio: corpus.AudioCorpus
  encoder: ClipEncoder
  directory: pathlib.Path
  record: token_corpus.RecordLayout


def write_shard(
  work: Work, clips: range, *, number: int, advance: shards.Advance
) -> shards.ShardReport:
  """Writes one shard folder, complete or not at all."""
  with shards.making(work.directory, number) as partial:
    report, usage = _write_clips(work, clips, partial, advance)
    rate_hz = work.audio.sample_rate_hz
    shards.verify(
      partial / token_corpus.CODES_FILE,
      num_records=sum(-(-c.num_samples // rate_hz) for c in report.clips),
    )
    shards.verify(partial / corpus.CLIPS_FILE, num_records=len(report.clips))
    write_usage(partial, usage)
    shards.write_json(partial / corpus.SHARD_FILE, dataclasses.asdict(report))
  return report


def write_usage(
  directory: pathlib.Path, usage: Mapping[str, np.ndarray]
) -> None:
  """How often each level of each stream used each code."""
  with shards.replacing(directory / token_corpus.USAGE_FILE) as file:
    np.savez_compressed(file, **usage)


def encode(work: Work, clip: int) -> dict[str, np.ndarray]:
  """The codes of one clip by stream, checked, and no more than its frames."""
  row = work.audio.index[clip]
  rate_hz = work.audio.sample_rate_hz
  try:
    waveform = work.audio.waveform(clip)
  except (ValueError, OSError) as error:
    raise RejectedClip('unreadable', str(error)) from error
  found = work.encoder.encode(
    waveform,
    sample_rate_hz=rate_hz,
    condition_seconds=work.record.condition_seconds,
  )
  seconds = corpus.num_seconds(row, sample_rate_hz=rate_hz)
  codes = {}
  for stream in work.record.streams:
    if stream.rate_hz is None:
      num_rows = math.ceil(seconds)
    else:
      num_rows = token_corpus.whole_frames(seconds, stream)
    if not num_rows:
      raise RejectedClip('too short', f'it holds no frame of {stream.name!r}')
    given = np.asarray(found[stream.name])
    shape = work.record.code_shape(stream, num_rows)
    if given.shape[1:] != shape[1:] or len(given) < num_rows:
      raise ValueError(
        f'The encoder gave codes {list(given.shape)} of {stream.name!r} for a'
        f' clip of {float(seconds):g} s; at least {list(shape)} are wanted.'
      )
    codes[stream.name] = given[:num_rows]
  return codes


def _write_clips(
  work: Work, clips: range, partial: pathlib.Path, advance: shards.Advance
) -> tuple[shards.ShardReport, dict[str, np.ndarray]]:
  """Writes the records of every good clip and says what came of all."""
  written, rejected = [], []
  usage = {
    stream.name: np.zeros(
      (stream.num_codebooks, stream.codebook_size), np.int64
    )
    for stream in work.record.streams
  }
  splits = list(work.audio.info.splits)
  with (
    shards.records(partial / token_corpus.CODES_FILE) as codes_file,
    shards.records(partial / corpus.CLIPS_FILE) as clips_file,
  ):
    for clip in clips:
      about, row = work.audio.describe(clip), work.audio.index[clip]
      try:
        codes = encode(work, clip)
      except RejectedClip as error:
        rejected.append(
          shards.Rejection(
            id=about.id, reason=error.reason, detail=error.detail
          )
        )
        advance(0.0, True)
        continue
      for name, counts in usage.items():
        _count(codes[name], counts)
      for record in work.record.write(codes):
        codes_file.write(record)
      clips_file.write(json.dumps(dataclasses.asdict(about)).encode())
      num_samples = int(row['num_samples'])
      written.append(
        shards.WrittenClip(
          id=about.id, split=splits[row['split']], num_samples=num_samples
        )
      )
      advance(num_samples / work.audio.sample_rate_hz, False)
  report = shards.ShardReport(
    clips=tuple(written), rejected=tuple(rejected), num_scaled=0
  )
  return report, usage


def _count(
  codes: Int[np.ndarray, '*axes levels'],
  counts: Int[np.ndarray, 'levels codes'],
) -> None:
  """Adds the codes of each level to `counts`."""
  for level, of_level in enumerate(codes.reshape(-1, codes.shape[-1]).T):
    counts[level] += np.bincount(of_level, minlength=counts.shape[1])
