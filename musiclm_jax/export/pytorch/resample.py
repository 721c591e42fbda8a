# SPDX-License-Identifier: Apache-2.0
"""From one sample rate to another: a polyphase filter as one convolution.

A sinc under a Kaiser window (Kaiser, 1974): what lies above the new Nyquist
frequency is rejected by 100 dB, what lies below 0.9 of it passes within 0.01
dB. Training used soxr, which has the same bounds and another filter.

Shapes: [batch, samples].
"""

from __future__ import annotations

import functools
import math

import torch
from torch.nn import functional

# Kaiser's formulas for 110 dB and a transition of a tenth of the band: samples
# at the lower of both rates to either side, and the window's shape.
_REACH = 72
_BETA = 0.1102 * (110 - 8.7)
_CUTOFF = 0.95


def resample(
  waveform: torch.Tensor, *, from_hz: int, to_hz: int
) -> torch.Tensor:
  """Resamples each row; sample 0 stays sample 0.

  Args:
    waveform: [batch, samples].
    from_hz: Its sample rate.
    to_hz: The rate that is wanted.

  Returns:
    As many samples as the duration holds, rounded; float32.
  """
  if from_hz <= 0 or to_hz <= 0:
    raise ValueError(
      f'Resampling from {from_hz} Hz to {to_hz} Hz; both must be above 0.'
    )
  waveform = waveform.float()
  if from_hz == to_hz:
    return waveform
  common = math.gcd(from_hz, to_hz)
  up, down = to_hz // common, from_hz // common
  wanted = (2 * waveform.shape[1] * up + down) // (2 * down)
  if not wanted:
    return waveform[:, :0]
  kernel, reach = _kernel(up, down)
  blocks = -(-wanted // up)
  # Block k makes `up` samples around k · down.
  missing = (blocks - 1) * down + kernel.shape[-1]
  missing -= waveform.shape[1] + reach
  padded = functional.pad(waveform, (reach, max(0, missing)))
  made = functional.conv1d(
    padded[:, None], kernel.to(waveform.device), stride=down
  )  # [batch, up, blocks]
  return made.transpose(1, 2).flatten(1)[:, :wanted]


@functools.lru_cache(maxsize=8)
def _kernel(up: int, down: int) -> tuple[torch.Tensor, int]:
  """[up, 1, taps], and how many samples before its block it begins."""
  band = min(1.0, up / down)  # of the input's
  width = _REACH / band
  reach = math.ceil(width)
  taps = torch.arange(-reach, reach + down + 1, dtype=torch.float64)
  phases = torch.arange(up, dtype=torch.float64)[:, None] * down / up
  offsets = taps - phases  # [up, taps], in samples of the input
  inside = (1 - (offsets / width).square()).clamp(min=0)
  window = torch.special.i0(_BETA * inside.sqrt()) / torch.special.i0(
    torch.tensor(_BETA, dtype=torch.float64)
  )
  window = torch.where(offsets.abs() < width, window, 0.0)
  cutoff = _CUTOFF * band
  kernel = cutoff * torch.sinc(cutoff * offsets) * window
  return kernel[:, None].float(), reach
