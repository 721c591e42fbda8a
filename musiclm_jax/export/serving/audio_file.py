# SPDX-License-Identifier: Apache-2.0
"""Waveforms to the bytes of files of 16 bits a sample, part by part.

A part's bytes are final: they can be sent before the next part is made. Of one
piece the joined bytes of a WAV are the same however it was cut into parts.

Shapes: samples = time of one piece.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import soundfile
import torch

MEDIA_TYPES = {'wav': 'audio/wav', 'flac': 'audio/flac'}
ZIP_MEDIA_TYPE = 'application/zip'

_SAMPLE_BYTES = 2


def encoder(
  audio_format: str, *, sample_rate_hz: int, num_samples: int
) -> Wav | Flac:
  """Of a file of `num_samples` in one channel: `add` samples, then `end`."""
  kind = {'wav': Wav, 'flac': Flac}[audio_format]
  return kind(sample_rate_hz=sample_rate_hz, num_samples=num_samples)


def whole(
  samples: torch.Tensor, *, audio_format: str, sample_rate_hz: int
) -> bytes:
  """The file of one piece, [samples]."""
  if audio_format == 'flac':  # With a checksum in its header.
    file = io.BytesIO()
    soundfile.write(
      file, _pcm(samples), sample_rate_hz, format='FLAC', subtype='PCM_16'
    )
    return file.getvalue()
  wav = Wav(sample_rate_hz=sample_rate_hz, num_samples=len(samples))
  return wav.add(samples)


def zipped(files: Mapping[str, bytes]) -> bytes:
  """One file of several; the same bytes for the same files."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    for name, content in files.items():
      archive.writestr(zipfile.ZipInfo(name), content)
  return file.getvalue()


class Wav:
  """RIFF with one chunk of PCM; its length stands at its front."""

  def __init__(self, *, sample_rate_hz: int, num_samples: int):
    num_bytes = num_samples * _SAMPLE_BYTES
    self._header = struct.pack(
      '<4sI4s4sIHHIIHH4sI',
      b'RIFF',
      36 + num_bytes,
      b'WAVE',
      b'fmt ',
      16,
      1,  # PCM
      1,  # channel
      sample_rate_hz,
      sample_rate_hz * _SAMPLE_BYTES,
      _SAMPLE_BYTES,
      8 * _SAMPLE_BYTES,
      b'data',
      num_bytes,
    )

  def add(self, samples: torch.Tensor) -> bytes:
    """The bytes that these samples complete."""
    header, self._header = self._header, b''
    return header + _pcm(samples).astype('<i2').tobytes()

  def end(self) -> bytes:
    """What is left."""
    return b''


class Flac:
  """Frames of FLAC as libsndfile completes them.

  libsndfile learns the length at the end and would write it back into what has
  been sent; so it is put into the header here. The checksum of all samples
  stays 0 there, which stands for none.
  """

  def __init__(self, *, sample_rate_hz: int, num_samples: int):
    self._num_samples = num_samples
    self._bytes = io.BytesIO()
    self._sent = 0
    self._file = soundfile.SoundFile(
      self._bytes,
      'w',
      samplerate=sample_rate_hz,
      channels=1,
      format='FLAC',
      subtype='PCM_16',
    )

  def add(self, samples: torch.Tensor) -> bytes:
    """The bytes that these samples complete."""
    self._file.write(_pcm(samples))
    return self._fresh()

  def end(self) -> bytes:
    """What is left."""
    self._file.close()
    return self._fresh()

  def _fresh(self) -> bytes:
    start, self._sent = self._sent, len(self._bytes.getbuffer())
    fresh = bytes(self._bytes.getbuffer()[start:])
    if start == 0:
      # The lowest 36 bits of these 8 bytes; see RFC 9639, section 8.2.
      field = int.from_bytes(fresh[18:26], 'big') | self._num_samples
      fresh = fresh[:18] + field.to_bytes(8, 'big') + fresh[26:]
    return fresh


def _pcm(samples: torch.Tensor) -> Any:
  """int16 in NumPy, [samples]; what lies beyond full scale is clipped."""
  samples = samples.detach().float().cpu()
  if not samples.isfinite().all():
    raise ValueError('The model made samples that are not finite.')
  scaled = samples.clamp(-1, 1) * 32767
  return scaled.round().to(torch.int16).numpy()
