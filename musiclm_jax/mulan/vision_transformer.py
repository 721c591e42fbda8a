# SPDX-License-Identifier: Apache-2.0
"""A Vision Transformer over a spectrogram: AST, and its smaller kin.

Dosovitskiy et al., "An Image Is Worth 16x16 Words" (2021), section 3.1; Gong et
al., "AST: Audio Spectrogram Transformer" (2021), section 2.1. MuLan (Huang et
al., 2022), section 3.1: 12 blocks, patches of 16 × 16, [CLS]. AST's patches
overlap by 6; its published tower has a distillation token besides, which has no
part here (ours).

Shapes: [batch, frames, mels] in, [batch, width] out. Patches of padding alone
are not looked at.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import axes
from musiclm_jax.array_types import Array, FrameMask
from musiclm_jax.layers import dense, parameters
from musiclm_jax.mulan import encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionTransformerConfig:
  """Sizes of the patches and of what reads them.

  Attributes:
    encoder: Sizes of the body; its norms stand before the layers.
    patch: (frames, mels) of a patch.
    stride: (frames, mels) from one patch to the next, a patch if left out.
  """

  encoder: encoder.EncoderConfig
  patch: tuple[int, int] = (16, 16)
  stride: tuple[int, int] | None = None

  def __post_init__(self):
    # gin hands lists over.
    object.__setattr__(self, 'patch', tuple(self.patch))
    object.__setattr__(self, 'stride', tuple(self.stride or self.patch))

  def make(self, *, name: str) -> nn.Module:
    """The body of a tower."""
    return VisionTransformer(self, name=name)

  @property
  def types(self) -> dict[str, Any]:
    """What every layer is told."""
    return self.encoder.types


class VisionTransformer(nn.Module):
  """Patches and a [CLS] vector through an encoder; gives the [CLS] vector.

  Attributes:
    config: Sizes.
  """

  config: VisionTransformerConfig

  @nn.compact
  def __call__(
    self,
    features: Float[Array, 'batch frames mels'],
    *,
    frame_mask: FrameMask,
  ) -> Float[Array, 'batch width']:
    config, body = self.config, self.config.encoder
    patches = cut(features, config=config)  # [batch, times, bands, patch]
    batch, num_times, num_bands, _ = patches.shape
    embedded = dense.DenseGeneral(
      features=(body.embed_dim,),
      axes=(axes.EMBED, None),
      use_bias=True,
      name='patches',
      **body.types,
    )(patches.reshape(batch, num_times * num_bands, -1))
    first = self._table('cls', 1)
    embedded = jnp.concatenate(
      [jnp.broadcast_to(first[None], (batch, 1, body.embed_dim)), embedded], 1
    )
    positions = self._table('positions', embedded.shape[1])
    embedded = encoder.dropped(
      self, embedded + positions[None], body.dropout_rate
    )
    hidden = encoder.Encoder(body, name='encoder')(
      embedded, valid_mask=self._valid(frame_mask, num_bands)
    )
    return hidden[:, 0]

  def _valid(
    self, frame_mask: FrameMask, num_bands: int
  ) -> Bool[Array, 'batch length']:
    """[CLS], and the patches in which a frame is valid."""
    size, step = self.config.patch[0], self.config.stride[0]
    windows = _windows(frame_mask, size=size, step=step, axis=1)
    patches = jnp.repeat(jnp.any(windows, axis=2), num_bands, axis=1)
    first = jnp.ones((frame_mask.shape[0], 1), bool)
    return jnp.concatenate([first, patches], axis=1)

  def _table(self, name: str, num_rows: int) -> Float[Array, 'rows embed']:
    body = self.config.encoder
    table = parameters.param(
      self,
      name,
      nn.initializers.truncated_normal(stddev=0.02),
      (num_rows, body.embed_dim),
      jnp.dtype(body.param_dtype),
      axes=(None, axes.EMBED),
    )
    return table.astype(body.dtype)


def cut(
  features: Float[Array, 'batch frames mels'],
  *,
  config: VisionTransformerConfig,
) -> Float[Array, 'batch times bands patch']:
  """Patches, row by row of time; what does not fill one is left out."""
  (size_t, size_m), (step_t, step_m) = config.patch, config.stride
  if features.shape[1] < size_t or features.shape[2] < size_m:
    raise ValueError(
      f'A spectrogram of {features.shape[1]} frames and {features.shape[2]} mels'
      f' has no patch of {config.patch}; use a longer window or smaller patches.'
    )
  windows = _windows(features, size=size_t, step=step_t, axis=1)
  windows = _windows(windows, size=size_m, step=step_m, axis=3)
  # [batch, times, frames of a patch, bands, mels of a patch]
  windows = windows.swapaxes(2, 3)
  return windows.reshape(*windows.shape[:3], -1)


def _windows(values: Array, *, size: int, step: int, axis: int) -> Array:
  """Axis `axis` as two: whole windows, and what is in one."""
  count = (values.shape[axis] - size) // step + 1
  starts = step * jnp.arange(count)[:, None] + jnp.arange(size)[None]
  return jnp.take(values, starts, axis=axis)
