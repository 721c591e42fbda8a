# SPDX-License-Identifier: Apache-2.0
"""From one sample rate to another, on the host.

soxr at its 'HQ' setting: linear phase, 20 bits. What lies above the new Nyquist
frequency is rejected by at least 100 dB, and what lies below 0.9 of it passes
within 0.01 dB (both tested).
"""

from __future__ import annotations

import numpy as np
import soxr
from jaxtyping import Float

HostWaveform = Float[np.ndarray, ' samples']


def resample(
  waveform: HostWaveform, *, from_hz: int, to_hz: int
) -> Float[np.ndarray, ' resampled']:
  """Resamples `waveform`, float32 or float64, and keeps its type.

  Args:
    waveform: One channel.
    from_hz: Its sample rate.
    to_hz: The rate that is wanted.

  Returns:
    `num_resampled(len(waveform), …)` samples; sample 0 stays sample 0.
  """
  _require_rates(from_hz, to_hz)
  if from_hz == to_hz:
    return waveform
  return soxr.resample(waveform, from_hz, to_hz, quality='HQ')


def num_resampled(num_samples: int, *, from_hz: int, to_hz: int) -> int:
  """How many samples `resample` makes of `num_samples`: rounded, halves up."""
  _require_rates(from_hz, to_hz)
  return (2 * num_samples * to_hz + from_hz) // (2 * from_hz)


def _require_rates(from_hz: int, to_hz: int) -> None:
  if from_hz <= 0 or to_hz <= 0:
    raise ValueError(
      f'Resampling from {from_hz} Hz to {to_hz} Hz; both must be above 0.'
    )
