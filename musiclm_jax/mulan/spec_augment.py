# SPDX-License-Identifier: Apache-2.0
"""SpecAugment: bands of time and of mel that a tower does not see in training.

Park et al., "SpecAugment" (2019), section 2, time and frequency masking. MuLan
(Huang et al., 2022), section 3.1, has it for both audio towers and gives no
sizes; ours are those of the first paper's policy LD, without time warping.

Shapes: features [batch, frames, mels], draws [batch, bands, 2].
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from musiclm_jax.array_types import Array, PRNGKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
  """How many bands, and how wide at most.

  Attributes:
    num_time_bands: Runs of frames.
    max_frames: The longest of them.
    num_mel_bands: Runs of mels.
    max_mels: The widest of them.
  """

  num_time_bands: int = 2
  max_frames: int = 100
  num_mel_bands: int = 2
  max_mels: int = 27

  @property
  def num_bands(self) -> int:
    return self.num_time_bands + self.num_mel_bands


def draw(
  key: PRNGKey, num_rows: int, *, config: SpecAugmentConfig
) -> Float[Array, 'batch bands 2']:
  """Width and place of each band of each row, as shares in [0, 1).

  Apart from `hide`, so that what is drawn does not depend on how many rows a
  tower takes at a time.
  """
  return jax.random.uniform(key, (num_rows, config.num_bands, 2))


def hide(
  features: Float[Array, 'batch frames mels'],
  draws: Float[Array, 'batch bands 2'],
  *,
  config: SpecAugmentConfig,
) -> Float[Array, 'batch frames mels']:
  """`features` with 0, their mean, in the bands."""
  _, num_frames, num_mels = features.shape
  time, mel = jnp.split(draws, [config.num_time_bands], axis=1)
  hidden = _bands(time, size=num_frames, widest=config.max_frames)[:, :, None]
  hidden = hidden | _bands(mel, size=num_mels, widest=config.max_mels)[:, None]
  return jnp.where(hidden, 0, features)


def _bands(
  draws: Float[Array, 'batch bands 2'], *, size: int, widest: int
) -> Bool[Array, 'batch size']:
  """Where any band lies; a width of 0 to `widest`, at most `size`."""
  width = jnp.floor(draws[..., 0] * (min(widest, size) + 1))
  start = jnp.floor(draws[..., 1] * (size - width + 1))
  place = jnp.arange(size, dtype=draws.dtype)[None, None]
  start, width = start[..., None], width[..., None]
  return jnp.any((place >= start) & (place < start + width), axis=1)
