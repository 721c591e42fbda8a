# SPDX-License-Identifier: Apache-2.0
"""Residual vector quantization: latents to codes and back.

Level q quantizes what levels 0..q-1 left over. SoundStream (Zeghidour et al.,
2021), section III-C; with `factorized_dim`, codes are searched by cosine in a
space of that width, as in Kumar et al. (2023), section 3.2.

Shapes: latents are [batch, frames, embed], codes [batch, frames, levels].
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .configuration import Config
from .layers import Float32Module


class ResidualQuantizer(Float32Module):
  """A stack of codebooks, in float32 whatever the latents are."""

  def __init__(self, config: Config, *, embed_dim: int):
    super().__init__()
    self.num_levels = config.num_levels
    self.codebook_size = config.codebook_size
    levels, dim = config.num_levels, config.factorized_dim or embed_dim
    shape = levels, config.codebook_size, dim
    self.register_buffer('embeddings', torch.zeros(shape))
    # Of training: kept, so that the way back is exact.
    self.register_buffer('counts', torch.zeros(shape[:2]))
    self.register_buffer('initialised', torch.tensor(False))
    self.is_factorized = config.factorized_dim is not None
    if self.is_factorized:
      self.project_in = nn.Parameter(torch.zeros(levels, embed_dim, dim))
      self.project_out = nn.Parameter(torch.zeros(levels, dim, embed_dim))

  def encode(
    self, latents: torch.Tensor, *, num_levels: int | None = None
  ) -> torch.Tensor:
    """The codes of the first `num_levels` levels, of all if left out."""
    residual = latents.float()
    codes = []
    for level in range(num_levels or self.num_levels):
      codes.append(self._search(residual, level))
      residual = residual - self._decode_level(codes[-1], level)
    return torch.stack(codes, dim=-1)

  def decode(self, codes: torch.Tensor) -> torch.Tensor:
    """The sum of the levels that `codes` has, of any number of them."""
    chosen = [
      self._decode_level(codes[..., level], level)
      for level in range(codes.shape[-1])
    ]
    return torch.stack(chosen).sum(dim=0)

  def _search(self, residual: torch.Tensor, level: int) -> torch.Tensor:
    embeddings = self.embeddings[level]
    if self.is_factorized:
      residual = functional.normalize(residual @ self.project_in[level], dim=-1)
      embeddings = functional.normalize(embeddings, dim=-1)
    return nearest(residual, embeddings)

  def _decode_level(self, codes: torch.Tensor, level: int) -> torch.Tensor:
    chosen = functional.embedding(codes, self.embeddings[level])
    return chosen @ self.project_out[level] if self.is_factorized else chosen


def nearest(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
  """The index of the nearest of [codes, dim], the lowest where two are."""
  # |p - c|^2 = |p|^2 - 2 p.c + |c|^2, of which |p|^2 changes no ranking.
  scores = centroids.square().sum(dim=-1) - 2 * (points @ centroids.T)
  return scores.argmin(dim=-1)
