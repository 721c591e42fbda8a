# SPDX-License-Identifier: Apache-2.0
"""ViSQOL in audio mode: what listeners would say of a copy, from 1 to 5.

ViSQOL v3 (Chinen et al., 2020), by the package visqol-python (the extra
`eval`). It compares at 48 kHz, so a codec at 24 kHz cannot reach what an exact
copy gets (4.73): the original, resampled there and back, is its ceiling. It is
made for copies: noise without anything of the original got 3.5, more than the
original with that noise under it. Read it beside the other figures.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float

_SAMPLE_RATE_HZ = 48_000


def visqol(
  reference: Float[np.ndarray, ' samples'],
  estimate: Float[np.ndarray, ' estimated'],
  *,
  sample_rate_hz: int,
) -> float:
  """The mean opinion score (MOS-LQO) of `estimate`; about 3 s a clip of 10 s."""
  if reference.shape != estimate.shape:
    raise ValueError(
      f'The reference has {reference.size} samples and the estimate'
      f' {estimate.size}; cut them to one length.'
    )
  result = _api().measure_from_arrays(
    _resampled(reference, sample_rate_hz=sample_rate_hz),
    _resampled(estimate, sample_rate_hz=sample_rate_hz),
    _SAMPLE_RATE_HZ,
  )
  return float(result.moslqo)


@functools.cache
def _api() -> Any:
  import visqol as visqol_python  # Of the extra: only who asks needs it.

  api = visqol_python.VisqolApi()
  api.create(mode='audio')
  return api


def _resampled(
  waveform: Float[np.ndarray, ' samples'], *, sample_rate_hz: int
) -> Float[np.ndarray, ' resampled']:
  waveform = np.asarray(waveform, np.float64)
  return soxr.resample(waveform, sample_rate_hz, _SAMPLE_RATE_HZ, quality='VHQ')
