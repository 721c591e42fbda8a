# SPDX-License-Identifier: Apache-2.0
"""Opus as a yardstick: encode and decode with libsndfile, count the bytes.

The bitrate is what the packets weigh, not what the encoder was asked for: the
encoder runs at variable bitrate, the only mode that libsndfile offers. Ogg page
headers and the two header packets are container and not counted (1 to 2 kbps
over clips of 10 to 5 s); `file_bytes` has them. The decoder drops the pre-skip, so
the waveform comes back in step with the original. Opus: RFC 6716; its place in
Ogg: RFC 7845.
"""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import soundfile
from jaxtyping import Float

SAMPLE_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)

_NUM_HEADER_PACKETS = 2  # OpusHead and OpusTags.
_PAGE_HEADER_BYTES = 27
_LACING_FULL = 255  # A packet ends with a segment shorter than this.

# libsndfile maps its compression level, from 0 to 1, onto this range.
LOWEST_KBPS, HIGHEST_KBPS = 6, 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpusCoded:
  """A waveform that went through Opus.

  Attributes:
    waveform: As long as the original, and in step with it.
    payload_bytes: Of the audio packets.
    file_bytes: Of the whole Ogg file.
  """

  waveform: Float[np.ndarray, ' samples']
  payload_bytes: int
  file_bytes: int


def code(
  waveform: Float[np.ndarray, ' samples'],
  *,
  sample_rate_hz: int,
  target_kbps: int,
) -> OpusCoded:
  """Encodes and decodes a mono waveform.

  Args:
    waveform: In [-1, 1].
    sample_rate_hz: One of `SAMPLE_RATES_HZ`.
    target_kbps: What the encoder is asked for, from 6 to 256.
  """
  if sample_rate_hz not in SAMPLE_RATES_HZ:
    raise ValueError(
      f'Opus has no {sample_rate_hz} Hz; resample to one of {SAMPLE_RATES_HZ}.'
    )
  if not LOWEST_KBPS <= target_kbps <= HIGHEST_KBPS:
    raise ValueError(
      f'libsndfile encodes Opus at {LOWEST_KBPS} to {HIGHEST_KBPS} kbps, not'
      f' at {target_kbps}.'
    )
  level = (HIGHEST_KBPS - target_kbps) / (HIGHEST_KBPS - LOWEST_KBPS)
  file = io.BytesIO()
  soundfile.write(
    file,
    waveform,
    sample_rate_hz,
    format='OGG',
    subtype='OPUS',
    compression_level=level,
  )
  file.seek(0)
  decoded, decoded_rate_hz = soundfile.read(file, dtype='float32')
  if (decoded.shape, decoded_rate_hz) != (waveform.shape, sample_rate_hz):
    raise ValueError(
      f'libsndfile {soundfile.__libsndfile_version__} gave back'
      f' {decoded.shape} samples at {decoded_rate_hz} Hz for {waveform.shape}'
      f' at {sample_rate_hz} Hz; install libsndfile 1.2 or newer.'
    )
  data = file.getvalue()
  packets = packet_sizes(data)
  return OpusCoded(
    waveform=decoded,
    payload_bytes=sum(packets[_NUM_HEADER_PACKETS:]),
    file_bytes=len(data),
  )


def packet_sizes(ogg: bytes) -> list[int]:
  """Bytes of each packet of an Ogg file (RFC 3533, section 6)."""
  sizes, unfinished, place = [], 0, 0
  while place < len(ogg):
    if ogg[place : place + 4] != b'OggS':
      raise ValueError(f'No Ogg page begins at byte {place} of {len(ogg)}.')
    num_segments = ogg[place + _PAGE_HEADER_BYTES - 1]
    first = place + _PAGE_HEADER_BYTES
    lacing = ogg[first : first + num_segments]
    for segment in lacing:
      unfinished += segment
      if segment < _LACING_FULL:
        sizes.append(unfinished)
        unfinished = 0
    place = first + num_segments + sum(lacing)
  return sizes
