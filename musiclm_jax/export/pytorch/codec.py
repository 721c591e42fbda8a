# SPDX-License-Identifier: Apache-2.0
"""SoundStream: waveform to residual codes and back, causal throughout.

Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec" (2021),
section III and figure 3.

Shapes: waveform is [batch, samples], codes [batch, frames, levels], latents
[batch, frames, embed]; hidden is [batch, channels, time].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

from .configuration import (
  Config,
  Path,
  has_weights_of,
  load_weights,
  read_config,
)
from .convolution import CausalConv1d, CausalConvTranspose1d, Past
from .quantizer import ResidualQuantizer

_DILATIONS = ('1', '3', '9')

# What is read at once, so that memory does not grow with the clip.
_CHUNK_FRAMES = 500

# What the layers of an encoder or a decoder remember between chunks.
State = Sequence[torch.Tensor]


class Codec(nn.Module):
  """Encoder, residual quantizer and decoder.

  Attributes:
    sample_rate_hz: Of its waveforms.
    hop_samples: Samples of one frame of codes.
    num_levels: Residual codebooks.
    codebook_size: Codes of each.
    encoder: Waveform to latents; None of a copy that only decodes.
  """

  def __init__(self, config: Config, *, can_encode: bool = True):
    super().__init__()
    self.sample_rate_hz = config.sample_rate_hz
    self.hop_samples = math.prod(config.strides)
    self.num_levels = config.quantizer.num_levels
    self.codebook_size = config.quantizer.codebook_size
    self.encoder = Encoder(config) if can_encode else None
    self.quantizer = ResidualQuantizer(
      config.quantizer, embed_dim=config.embed_dim
    )
    self.decoder = Decoder(config)

  @classmethod
  def from_pretrained(
    cls,
    folder: Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
  ) -> Codec:
    """The codec exported to `folder`, ready to decode, and to encode if it can.

    Args:
      folder: Of the component, such as `exported/codec`.
      device: Where it goes; the CPU if left out.
      dtype: What convolutions are computed in; codebooks stay in float32.
    """
    codec = cls(
      read_config(folder, kind='codec').config,
      can_encode=has_weights_of(folder, 'encoder'),
    )
    load_weights(codec, folder, device=device, dtype=dtype)
    return codec

  def fold_weight_norm(self) -> Codec:
    """Multiplies norms and directions once: faster, and for inference only."""
    for module in self.modules():
      if isinstance(module, (CausalConv1d, CausalConvTranspose1d)):
        module.fold_weight_norm()
    return self

  def forward(self, waveform: torch.Tensor) -> torch.Tensor:
    """The waveform as it comes back, of whole hops.

    Its gradient goes through the codes as if nothing had been quantized.
    """
    latents = self._require_encoder()(waveform)
    made = self.quantizer.decode(self.quantizer.encode(latents))
    return self.decoder(latents + (made - latents).detach())

  @torch.no_grad()
  def encode(
    self, waveform: torch.Tensor, num_levels: int | None = None
  ) -> torch.Tensor:
    """Codes of the first `num_levels` levels, of all if left out.

    Args:
      waveform: Floats in [-1, 1] at `sample_rate_hz`. The last hop is filled
        with silence.
      num_levels: How many levels to give back.

    Returns:
      int64 [batch, frames, levels].
    """
    self._require_audio(waveform)
    num_levels = self.num_levels if num_levels is None else num_levels
    self._require_levels(num_levels)
    missing = -waveform.shape[1] % self.hop_samples
    waveform = functional.pad(waveform.to(self.device), (0, missing))
    codes, state = [], None
    for chunk in waveform.split(_CHUNK_FRAMES * self.hop_samples, dim=1):
      made, state = self.encode_chunk(chunk, state, num_levels=num_levels)
      codes.append(made)
    return torch.cat(codes, dim=1)

  def decode(self, codes: torch.Tensor) -> torch.Tensor:
    """The waveform of codes of any number of levels, whole frames long."""
    return torch.cat(list(self.decode_pieces([codes])), dim=1)

  def decode_pieces(
    self, pieces: Iterable[torch.Tensor]
  ) -> Iterator[torch.Tensor]:
    """The waveform of codes that come piece by piece, of any lengths.

    Joined, what `decode` makes of the joined pieces.
    """
    state = None
    for codes in pieces:
      self._require_codes(codes)
      for chunk in codes.to(self.device).split(_CHUNK_FRAMES, dim=1):
        with torch.no_grad():
          waveform, state = self.decode_chunk(chunk, state)
        yield waveform

  def encode_chunk(
    self,
    waveform: torch.Tensor,
    state: State | None = None,
    *,
    num_levels: int | None = None,
  ) -> tuple[torch.Tensor, State]:
    """Codes of the next whole hops, and the state for those after them."""
    past = Past(state)
    latents = self._require_encoder()(waveform, past)
    return self.quantizer.encode(latents, num_levels=num_levels), past.kept

  def decode_chunk(
    self, codes: torch.Tensor, state: State | None = None
  ) -> tuple[torch.Tensor, State]:
    """The waveform of the next frames, and the state for those after them."""
    past = Past(state)
    return self.decoder(self.quantizer.decode(codes), past), past.kept

  @property
  def device(self) -> torch.device:
    return self.quantizer.embeddings.device

  def _require_encoder(self) -> nn.Module:
    if self.encoder is None:
      raise ValueError(
        'This copy of the codec has no encoder, so it makes no codes of audio;'
        ' use the codec that it was made of.'
      )
    return self.encoder

  def _require_audio(self, waveform: torch.Tensor) -> None:
    if waveform.ndim != 2 or not waveform.numel():
      raise ValueError(
        f'A waveform is [batch, samples], not {list(waveform.shape)}; add the'
        ' axis of the batch, and at least one sample.'
      )
    if not waveform.is_floating_point() or not waveform.isfinite().all():
      raise ValueError(
        f'A waveform is of finite floats in [-1, 1], not {waveform.dtype} with'
        ' NaN or infinity; divide integers by their full scale.'
      )

  def _require_codes(self, codes: torch.Tensor) -> None:
    if codes.ndim != 3 or not codes.numel() or codes.is_floating_point():
      raise ValueError(
        f'Codes are whole numbers [batch, frames, levels], not {codes.dtype}'
        f' {list(codes.shape)}.'
      )
    self._require_levels(codes.shape[-1])
    least, most = codes.min().item(), codes.max().item()
    if least < 0 or most >= self.codebook_size:
      raise ValueError(
        f'Codes {least} to {most} are not within [0, {self.codebook_size}); are'
        ' they tokens of a stage, with its offsets?'
      )

  def _require_levels(self, num_levels: int) -> None:
    if not 1 <= num_levels <= self.num_levels:
      raise ValueError(
        f'The codec has {self.num_levels} levels, not {num_levels}; ask for 1'
        f' to {self.num_levels}.'
      )


class Encoder(nn.Module):
  """Waveform to latents, one frame a hop."""

  def __init__(self, config: Config):
    super().__init__()
    norm = {'weight_norm': config.weight_norm}
    channels = config.channels
    self.first = CausalConv1d(1, channels, 7, **norm)
    self.blocks = nn.ModuleList()
    for stride in config.strides:
      self.blocks.append(EncoderBlock(channels, stride, **norm))
      channels *= 2
    self.last = CausalConv1d(channels, config.embed_dim, 3, **norm)

  def forward(
    self, waveform: torch.Tensor, past: Past | None = None
  ) -> torch.Tensor:
    hidden = waveform[:, None].to(self.first.bias.dtype)
    hidden = self.first(hidden, past)
    for block in self.blocks:
      hidden = block(hidden, past)
    return self.last(functional.elu(hidden), past).transpose(1, 2)


class Decoder(nn.Module):
  """Latents to waveform, the encoder's mirror image."""

  def __init__(self, config: Config):
    super().__init__()
    norm = {'weight_norm': config.weight_norm}
    channels = config.channels * 2 ** len(config.strides)
    self.first = CausalConv1d(config.embed_dim, channels, 7, **norm)
    self.blocks = nn.ModuleList()
    for stride in reversed(config.strides):
      self.blocks.append(DecoderBlock(channels, stride, **norm))
      channels //= 2
    self.last = CausalConv1d(channels, 1, 7, **norm)

  def forward(
    self, latents: torch.Tensor, past: Past | None = None
  ) -> torch.Tensor:
    hidden = latents.transpose(1, 2).to(self.first.bias.dtype)
    hidden = self.first(hidden, past)
    for block in self.blocks:
      hidden = block(hidden, past)
    return self.last(functional.elu(hidden), past)[:, 0].float()


class _ResidualUnits(nn.Module):
  """Three residual units of growing dilation, by which they are named."""

  channels_first = True

  def __init__(self, channels: int, *, weight_norm: bool):
    super().__init__()
    norm = {'weight_norm': weight_norm}
    self.dilated = nn.ModuleDict()
    self.mix = nn.ModuleDict()
    for dilation in _DILATIONS:
      self.dilated[dilation] = CausalConv1d(
        channels, channels, 7, dilation=int(dilation), **norm
      )
      self.mix[dilation] = CausalConv1d(channels, channels, 1, **norm)

  def refine(self, hidden: torch.Tensor, past: Past | None) -> torch.Tensor:
    for dilated, mix in zip(self.dilated.values(), self.mix.values()):
      inner = dilated(functional.elu(hidden), past)
      hidden = hidden + mix(functional.elu(inner), past)
    return hidden


class EncoderBlock(_ResidualUnits):
  """Three residual units, then fewer frames of twice the channels."""

  def __init__(self, channels: int, stride: int, *, weight_norm: bool):
    super().__init__(channels, weight_norm=weight_norm)
    self.down = CausalConv1d(
      channels,
      2 * channels,
      2 * stride,
      stride=stride,
      weight_norm=weight_norm,
    )

  def forward(self, hidden: torch.Tensor, past: Past | None) -> torch.Tensor:
    return self.down(functional.elu(self.refine(hidden, past)), past)


class DecoderBlock(_ResidualUnits):
  """More frames of half the channels, then three residual units."""

  def __init__(self, channels: int, stride: int, *, weight_norm: bool):
    super().__init__(channels // 2, weight_norm=weight_norm)
    self.up = CausalConvTranspose1d(
      channels,
      channels // 2,
      2 * stride,
      stride=stride,
      weight_norm=weight_norm,
    )

  def forward(self, hidden: torch.Tensor, past: Past | None) -> torch.Tensor:
    return self.refine(self.up(functional.elu(hidden), past), past)
