# SPDX-License-Identifier: Apache-2.0
"""Audio files to waveforms and back, on the host.

WAV, FLAC, OGG, MP3 and Opus through soundfile, at any rate and with any number
of channels. Whatever is wrong with a file is one `AudioFileError` that names it.

Shapes: samples = time at the rate that goes with the waveform, one channel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fractions
import functools
import math
import os
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile
from absl import logging
from jaxtyping import Float

from musiclm_jax.audio import resample
from musiclm_jax.audio.resample import HostWaveform
from musiclm_jax.streams import Exact

# Read on either side of a part that is resampled, so that it equals that part
# of the whole: the reach of the resampling filter, at the lower of the rates.
_MARGIN_SAMPLES = 1024

# An MP3 frame borrows bits from those before it, so what a decoder makes first
# after a seek is garbage; this much is decoded before and thrown away.
_MP3_RUN_UP_SAMPLES = 20 * 1152

# Encoders and their headers disagree by a few frames of 1152 samples about how
# long an MP3 is; no more than this is put down to that.
_MP3_SLACK_SAMPLES = 4 * 1152

_LARGEST_OGG_PAGE = 65_307  # bytes
_NOT_AUDIO = (1, 7)  # libsndfile's codes for a format or a text it cannot place
_SUBTYPES = {'.opus': ('OGG', 'OPUS'), '.ogg': ('OGG', 'VORBIS')}


class AudioFileError(ValueError):
  """A file that cannot be read or written as audio.

  Attributes:
    path: The file.
    reason: One of 'missing', 'not_audio', 'damaged', 'empty', 'not_finite' and
      'not_written', for counting.
    message: What is wrong with it, without its path.
  """

  def __init__(self, path: str | os.PathLike, *, reason: str, message: str):
    super().__init__(f'{os.fspath(path)}: {message}')
    self.path = os.fspath(path)
    self.reason = reason
    self.message = message

  def __reduce__(self):
    # Worker processes send it back, which positional arguments only survive.
    settings = {'reason': self.reason, 'message': self.message}
    return functools.partial(AudioFileError, **settings), (self.path,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
  """What was read.

  Attributes:
    waveform: One channel, float32, in [-1, 1]; a file of floats, and a lossy
      decoder, may go a little beyond.
    sample_rate_hz: Its rate.
  """

  waveform: HostWaveform
  sample_rate_hz: int


def read(
  path: str | os.PathLike,
  *,
  sample_rate_hz: int | None = None,
  start_seconds: Exact = 0,
  num_seconds: Exact | None = None,
) -> Recording:
  """Reads a file or a part of it, mixed down to one channel (the mean).

  Args:
    path: The file.
    sample_rate_hz: The rate that is wanted; the file's own if left out.
    start_seconds: Where to begin, rounded down to a sample of the result. Only
      what is needed is decoded.
    num_seconds: How much to read, rounded down likewise; to the end if left
      out. A file that ends before gives what it has.

  Returns:
    At least one sample.

  Raises:
    AudioFileError: The file is missing, no audio, damaged or empty, begins
      after `start_seconds`, or holds samples that are NaN or infinite.
  """
  with _opened(path) as file:
    from_hz = file.samplerate
    to_hz = from_hz if sample_rate_hz is None else sample_rate_hz
    rates = {'from_hz': from_hz, 'to_hz': to_hz}
    total = resample.num_resampled(file.frames, **rates)
    start = math.floor(fractions.Fraction(str(start_seconds)) * to_hz)
    stop = total
    if num_seconds is not None:
      span = math.floor(fractions.Fraction(str(num_seconds)) * to_hz)
      stop = min(total, start + span)
    if not 0 <= start < stop:
      raise AudioFileError(
        path,
        reason='empty',
        message=f'no sample from {start_seconds} s on'
        + ('' if num_seconds is None else f' for {num_seconds} s')
        + f'; the file has {file.frames / from_hz:g} s.',
      )
    first, last = _source_span(start, stop, **rates)
    samples = _read_samples(file, path, first, min(last, file.frames))
  offset = start - first * to_hz // from_hz
  waveform = resample.resample(samples, **rates)[offset:][: stop - start]
  if not waveform.size:  # an MP3 that is shorter than its header says
    raise AudioFileError(
      path, reason='empty', message=f'no sample from {start_seconds} s on.'
    )
  return Recording(waveform=waveform, sample_rate_hz=to_hz)


def write(
  path: str | os.PathLike, waveform: HostWaveform, *, sample_rate_hz: int
) -> None:
  """Writes `waveform` in the format that the suffix of `path` names.

  16 bits where the format has bits. Samples beyond ±1 are clipped, and their
  number is logged. The file appears whole or not at all.
  """
  path = pathlib.Path(path)
  if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
    raise ValueError(
      f'Audio to write is floats [samples]; got {waveform.dtype}'
      f' {list(waveform.shape)}.'
    )
  if not np.isfinite(waveform).all():
    raise AudioFileError(
      path, reason='not_finite', message=_count_not_finite(waveform)
    )
  if clipped := int(np.sum(np.abs(waveform) > 1)):
    logging.warning(
      '%s: clipped %d of %d samples.', path, clipped, waveform.size
    )
    waveform = np.clip(waveform, -1, 1)
  suffix = path.suffix.lower()
  name, subtype = _SUBTYPES.get(suffix, (suffix.lstrip('.').upper(), None))
  if name not in soundfile.available_formats():
    raise AudioFileError(
      path,
      reason='not_written',
      message=f'no audio format is called {suffix!r}; use .wav, .flac, .ogg,'
      ' .mp3 or .opus.',
    )
  # Beside its goal: a rename is atomic within one file system only.
  temporary = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
  try:
    soundfile.write(
      temporary, waveform, sample_rate_hz, format=name, subtype=subtype
    )
    os.replace(temporary, path)
  except (OSError, TypeError, ValueError, soundfile.SoundFileError) as error:
    raise AudioFileError(
      path,
      reason='not_written',
      message=f'could not be written at {sample_rate_hz} Hz ({error}).',
    ) from error
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[soundfile.SoundFile]:
  """A file that is open for reading, whole as far as its headers tell."""
  try:
    with open(path, 'rb') as file:
      _require_whole(path, file, num_bytes=os.path.getsize(path))
  except OSError as error:
    raise AudioFileError(
      path, reason='missing', message=f'{error.strerror}; check the path.'
    ) from error
  try:
    with soundfile.SoundFile(path) as file:
      yield file
  except soundfile.LibsndfileError as error:
    if error.code in _NOT_AUDIO:
      reason, told = 'not_audio', 'is not audio in a format that is known'
    else:
      reason, told = 'damaged', 'is damaged or cut short'
    raise AudioFileError(
      path,
      reason=reason,
      message=f'{told} ({error.error_string}); replace or remove it.',
    ) from error


def _require_whole(
  path: str | os.PathLike, file: BinaryIO, *, num_bytes: int
) -> None:
  """Refuses what libsndfile would read short without a word."""
  if num_bytes == 0:
    raise AudioFileError(path, reason='empty', message='is an empty file.')
  head = file.read(8)
  if head[:4] == b'RIFF':
    told = int.from_bytes(head[4:], 'little') + 8
    # Writers to a pipe leave 0 or the largest number; some count the eight
    # bytes that come before.
    whole = not num_bytes + 8 < told < 2**32 - 1
  elif head[:4] == b'OggS':
    file.seek(max(0, num_bytes - _LARGEST_OGG_PAGE))
    _, _, page = file.read().rpartition(b'OggS')
    whole = len(page) > 1 and bool(page[1] & 4)  # the flag of the last page
  else:
    return  # too short a read will tell
  if not whole:
    raise AudioFileError(
      path,
      reason='damaged',
      message=f'is cut short at {num_bytes} bytes; copy it again.',
    )


def _source_span(
  start: int, stop: int, *, from_hz: int, to_hz: int
) -> tuple[int, int]:
  """Samples of the file that samples `start` to `stop` of the result need."""
  if from_hz == to_hz:
    return start, stop
  # A whole number of periods before: there both grids have a sample, so the
  # result's samples fall where they would if all was read.
  period = from_hz // math.gcd(from_hz, to_hz)
  margin = _MARGIN_SAMPLES * max(1, -(-from_hz // to_hz))
  first = max(0, start * from_hz // to_hz - margin) // period * period
  return first, -(-stop * from_hz // to_hz) + margin


def _read_samples(
  file: soundfile.SoundFile, path: str | os.PathLike, first: int, last: int
) -> HostWaveform:
  """Samples `first` to `last` of a file, checked, one channel."""
  is_mp3 = file.format == 'MP3'
  run_up = min(first, _MP3_RUN_UP_SAMPLES) if is_mp3 else 0
  file.seek(first - run_up)
  samples = file.read(last - first + run_up, dtype='float32', always_2d=True)
  samples = samples[run_up:]
  missing = last - first - len(samples)
  if missing > (_MP3_SLACK_SAMPLES if is_mp3 else 0):
    raise AudioFileError(
      path,
      reason='damaged',
      message=f'is cut short: {missing} samples of {file.frames} are missing;'
      ' copy it again.',
    )
  if not np.isfinite(samples).all():
    raise AudioFileError(
      path, reason='not_finite', message=_count_not_finite(samples)
    )
  return np.mean(samples, axis=1)  # [samples]


def _count_not_finite(samples: Float[np.ndarray, ...]) -> str:
  bad = samples.size - int(np.isfinite(samples).sum())
  return f'{bad} of {samples.size} samples are NaN or infinite; repair them.'
