# SPDX-License-Identifier: Apache-2.0
"""How loud a waveform is, on the host.

Integrated loudness after ITU-R BS.1770-4 (K-weighting, blocks of 400 ms, gates
at -70 LUFS and 10 LU below the ungated mean) by pyloudnorm, within the 0.1 LU
that EBU Tech 3341 allows; and plain levels in decibels relative to full scale.
"""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm

from musiclm_jax.audio.resample import HostWaveform

BLOCK_SECONDS = 0.4  # BS.1770-4: the shortest waveform that has a loudness


def integrated_lufs(waveform: HostWaveform, *, sample_rate_hz: int) -> float:
  """Loudness of one channel in LUFS; minus infinity if all is gated away."""
  if len(waveform) < BLOCK_SECONDS * sample_rate_hz:
    raise ValueError(
      f'{len(waveform)} samples at {sample_rate_hz} Hz are shorter than the'
      f' {BLOCK_SECONDS} s that loudness is defined over; use `rms_db`.'
    )
  meter = pyloudnorm.Meter(sample_rate_hz, block_size=BLOCK_SECONDS)
  with np.errstate(divide='ignore'):  # the logarithm of a silent block
    return float(meter.integrated_loudness(waveform.astype(np.float64)))


def rms_db(waveform: HostWaveform) -> float:
  """Root mean square in dBFS: 0 for a square wave of ±1, -3 for a sine."""
  power = np.mean(np.square(waveform, dtype=np.float64)) if waveform.size else 0
  return _decibels(math.sqrt(power))


def peak_db(waveform: HostWaveform) -> float:
  """The largest magnitude in dBFS."""
  return _decibels(float(np.max(np.abs(waveform), initial=0)))


def is_silent(waveform: HostWaveform, *, threshold_db: float = -60.0) -> bool:
  """True if no tenth of a whole is louder than `threshold_db` (RMS).

  Tenths, so that one note in a long pause still counts, and a click does not
  (ours).
  """
  tenths = np.array_split(waveform, 10)
  return all(rms_db(tenth) <= threshold_db for tenth in tenths)


def _decibels(amplitude: float) -> float:
  return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf
