# SPDX-License-Identifier: Apache-2.0
"""Waveforms to log-mel spectra: magnitudes under triangular filters.

A periodic Hann window of unit energy, filters of height 1 evenly spaced in mel,
and those that hold no bin left out. Float32 whatever the model is computed in.

Shapes: samples = waveform time, frames = hops, bins = of the DFT, mels =
filters.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from .layers import Float32Module


class LogMel(Float32Module):
  """Natural logarithm of a mel spectrogram plus a floor.

  Attributes:
    num_filters: Mels of the result.
  """

  def __init__(
    self,
    *,
    sample_rate_hz: int,
    window_samples: int,
    hop_samples: int,
    num_mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    padding: str = 'SAME',
    floor: float = 1e-5,
  ):
    """Makes window and filters.

    Args:
      sample_rate_hz: Of the waveform.
      window_samples: Of the window and of the DFT.
      hop_samples: From one frame to the next.
      num_mels: Filters, those that hold no bin included.
      low_hz: Where the first begins.
      high_hz: Where the last ends; half the sample rate if left out.
      padding: Which samples a frame covers: 'SAME', those around its hop;
        'CAUSAL', those up to its end; 'VALID', those from its hop on.
      floor: Added to magnitudes.
    """
    super().__init__()
    self.window_samples = window_samples
    self.hop_samples = hop_samples
    self.padding = padding
    self.floor = floor
    filters = mel_filters(
      sample_rate_hz=sample_rate_hz,
      window_samples=window_samples,
      num_mels=num_mels,
      low_hz=low_hz,
      high_hz=sample_rate_hz / 2 if high_hz is None else high_hz,
    )
    self.num_filters = filters.shape[1]
    window = torch.hann_window(window_samples, dtype=torch.float64)
    window = window / window.square().sum().sqrt()
    self.register_buffer('filters', filters.float(), persistent=False)
    self.register_buffer('window', window.float(), persistent=False)

  def forward(self, waveform: torch.Tensor) -> torch.Tensor:
    """[batch, samples] to [batch, frames, mels]."""
    signal = functional.pad(waveform.float(), self._padded(waveform.shape[1]))
    frames = signal.unfold(1, self.window_samples, self.hop_samples)
    magnitude = torch.fft.rfft(frames * self.window).abs()
    return torch.log(magnitude @ self.filters + self.floor)

  def num_frames(self, num_samples: int) -> int:
    """Frames of the result."""
    padded = num_samples + sum(self._padded(num_samples))
    return (padded - self.window_samples) // self.hop_samples + 1

  def frame_mask(self, sample_mask: torch.Tensor) -> torch.Tensor:
    """True at the frames that cover at least one valid sample."""
    padded = functional.pad(sample_mask, self._padded(sample_mask.shape[1]))
    return padded.unfold(1, self.window_samples, self.hop_samples).any(dim=-1)

  def _padded(self, num_samples: int) -> tuple[int, int]:
    """Samples before and after, so that the last frame is a whole one."""
    if self.padding == 'VALID':
      return 0, 0
    spare = self.window_samples - self.hop_samples
    before = spare if self.padding == 'CAUSAL' else spare // 2
    missing = -num_samples % self.hop_samples
    return before, missing + spare - before


def mel_filters(
  *,
  sample_rate_hz: int,
  window_samples: int,
  num_mels: int,
  low_hz: float,
  high_hz: float,
) -> torch.Tensor:
  """[bins, mels] in float64; the scale is 2595 · log10(1 + Hz / 700)."""
  low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
  mels = torch.linspace(low, high, num_mels + 2, dtype=torch.float64)
  edges = 700 * (10 ** (mels / 2595) - 1)
  bins = torch.arange(window_samples // 2 + 1, dtype=torch.float64)
  bins = (bins * sample_rate_hz / window_samples)[:, None]
  left, centre, right = edges[:-2], edges[1:-1], edges[2:]
  rising = (bins - left) / (centre - left)
  falling = (right - bins) / (right - centre)
  bank = torch.minimum(rising, falling).clamp(min=0)
  return bank[:, (bank > 0).any(dim=0)]
