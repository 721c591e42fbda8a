# SPDX-License-Identifier: Apache-2.0
"""Waveform to semantic codes: w2v-BERT, a scaler and the nearest centroid.

MusicLM (Agostinelli et al., 2023), section 4.1. A clip is read in windows, and
of each what lies next to another window is dropped.

Shapes: waveform [batch, samples], features [batch, frames, embed], codes
[batch, frames].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from .configuration import Config, Path, load_weights, read_config
from .conformer import Conformer
from .layers import Float32Module, LayerNorm
from .quantizer import nearest
from .resample import resample
from .spectral import LogMel

# Fixed, whatever the data: about those of music at its usual loudness.
_LOG_MEL_MEAN = -4.6
_LOG_MEL_DEVIATION = 2.0

# Frames after the log-mel are a quarter as many.
_MEL_FRAMES = 4

# Windows that are read at once, at most.
_MAX_ROWS = 8


class SemanticTokenizer(nn.Module):
  """A fitted tokenizer.

  Attributes:
    sample_rate_hz: That it works at.
    hop_samples: Of one frame, at that rate.
    codebook_size: Codes.
  """

  def __init__(self, config: Config):
    super().__init__()
    model, sizes = config.model, config.model.subsampling
    width = model.block.embed_dim
    self.sample_rate_hz = sizes.sample_rate_hz
    self.hop_samples = sizes.mel_hop_samples * _MEL_FRAMES
    self.codebook_size = config.num_clusters
    self._window_frames = self._frames_in(config.window_seconds)
    self._margin_frames = self._frames_in(config.margin_seconds)
    self.subsampling = Subsampling(sizes, embed_dim=width)
    # What stands for masked frames: not read here, kept to train on.
    self.mask_vector = nn.Parameter(torch.zeros(width))
    self.contrastive = Conformer(
      model.block, num_blocks=model.num_contrastive_blocks
    )
    self.mlm = Conformer(model.block, num_blocks=config.num_mlm_blocks)
    self.scaler = Scaler(width)
    self.clusters = Clusters(config.num_clusters, width)

  @classmethod
  def from_pretrained(
    cls,
    folder: Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
  ) -> SemanticTokenizer:
    """The tokenizer exported to `folder`.

    Args:
      folder: Of the component, such as `exported/semantic`.
      device: Where it goes; the CPU if left out.
      dtype: Of its parameters; log-mel and centroids stay in float32.
    """
    tokenizer = cls(read_config(folder, kind='semantic').config)
    load_weights(tokenizer, folder, device=device, dtype=dtype)
    return tokenizer

  def forward(self, waveform: torch.Tensor) -> torch.Tensor:
    """Scaled activations, float32, of one window of whole hops."""
    hidden = self.contrastive(self.subsampling(waveform))
    return self.scaler(self.mlm(hidden))

  @torch.no_grad()
  def encode(self, waveform: torch.Tensor, sample_rate_hz: int) -> torch.Tensor:
    """Codes of whole clips.

    Args:
      waveform: [batch, samples], or [samples] as a batch of one, of floats in
        [-1, 1]. The last frame is filled with silence.
      sample_rate_hz: Its rate; resampled if it is not the model's.

    Returns:
      int64 [batch, frames].
    """
    return self._run(
      lambda rows: self.clusters(self(rows)), waveform, sample_rate_hz
    )

  @torch.no_grad()
  def features(
    self, waveform: torch.Tensor, sample_rate_hz: int
  ) -> torch.Tensor:
    """What the codes are made of, [batch, frames, embed]."""
    return self._run(self, waveform, sample_rate_hz)

  def _run(
    self,
    program: Callable[[torch.Tensor], torch.Tensor],
    waveform: torch.Tensor,
    sample_rate_hz: int,
  ) -> torch.Tensor:
    clips = self._prepared(waveform, sample_rate_hz)
    hop = self.hop_samples
    num_frames = clips.shape[1] // hop
    length = min(num_frames, self._window_frames)
    windows = list(
      covering_windows(num_frames, length, margin_frames=self._margin_frames)
    )
    rows = torch.cat(
      [clips[:, start * hop : (start + length) * hop] for start, _ in windows]
    )  # [windows × batch, samples]
    made = torch.cat([program(part) for part in rows.split(_MAX_ROWS)])
    parts = made.unflatten(0, (len(windows), len(clips)))
    return torch.cat(
      [part[:, kept] for part, (_, kept) in zip(parts, windows)], dim=1
    )

  def _prepared(
    self, waveform: torch.Tensor, sample_rate_hz: int
  ) -> torch.Tensor:
    """Whole hops of clips at the model's rate."""
    if waveform.ndim == 1:
      waveform = waveform[None]
    if waveform.ndim != 2 or not waveform.is_floating_point():
      raise ValueError(
        'A waveform is [batch, samples] of floats in [-1, 1], not'
        f' {waveform.dtype} {list(waveform.shape)}.'
      )
    if not waveform.isfinite().all():
      raise ValueError(
        'The waveform holds samples that are NaN or infinite; repair them.'
      )
    clips = resample(
      waveform.to(self.mask_vector.device),
      from_hz=sample_rate_hz,
      to_hz=self.sample_rate_hz,
    )
    if clips.shape[1] < self.hop_samples:
      raise ValueError(
        f'{clips.shape[1]} samples at {self.sample_rate_hz} Hz are less than'
        f' one frame of {self.hop_samples}; give a longer clip.'
      )
    return functional.pad(clips, (0, -clips.shape[1] % self.hop_samples))

  def _frames_in(self, seconds: int) -> int:
    return seconds * self.sample_rate_hz // self.hop_samples


class Subsampling(nn.Module):
  """Log-mel, two convolutions of stride 2, a projection and a norm."""

  def __init__(self, sizes: Config, *, embed_dim: int):
    super().__init__()
    self.log_mel = LogMel(
      sample_rate_hz=sizes.sample_rate_hz,
      window_samples=sizes.mel_window_samples,
      hop_samples=sizes.mel_hop_samples,
      num_mels=sizes.num_mels,
    )
    mels, channels = self.log_mel.num_filters, sizes.channels
    self.convolutions = nn.ModuleList(
      nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)
      for channels_in in (1, channels)
    )
    self.project = nn.Linear(-(-mels // 4) * channels, embed_dim, bias=False)
    self.norm = LayerNorm(embed_dim)

  def forward(self, waveform: torch.Tensor) -> torch.Tensor:
    mels = (self.log_mel(waveform) - _LOG_MEL_MEAN) / _LOG_MEL_DEVIATION
    hidden = mels[:, None].to(self.norm.weight.dtype)
    for convolution in self.convolutions:
      hidden = functional.silu(convolution(hidden))
    # [batch, channels, frames, mels / 4]
    return self.norm(self.project(hidden.permute(0, 2, 3, 1).flatten(2)))


class Scaler(Float32Module):
  """Brings each dimension to mean 0 and variance 1."""

  def __init__(self, dim: int):
    super().__init__()
    self.register_buffer('mean', torch.zeros(dim))
    self.register_buffer('deviation', torch.ones(dim))

  def forward(self, points: torch.Tensor) -> torch.Tensor:
    return (points.float() - self.mean) / self.deviation


class Clusters(Float32Module):
  """Centroids; a point's code is that of the nearest."""

  def __init__(self, num_clusters: int, dim: int):
    super().__init__()
    self.register_buffer('centroids', torch.zeros(num_clusters, dim))

  def forward(self, points: torch.Tensor) -> torch.Tensor:
    return nearest(points, self.centroids)


def covering_windows(
  num_frames: int, window_frames: int, *, margin_frames: int
) -> Iterator[tuple[int, slice]]:
  """Where each window starts, and which of its frames are kept.

  The kept frames join to the whole. At an edge next to another window
  `margin_frames` are dropped; the last window ends with the whole.
  """
  kept = 0
  while kept < num_frames:
    start = max(0, min(kept - margin_frames, num_frames - window_frames))
    stop = start + window_frames
    keep_stop = stop if stop == num_frames else stop - margin_frames
    yield start, slice(kept - start, keep_stop - start)
    kept = keep_stop
