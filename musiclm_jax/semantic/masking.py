# SPDX-License-Identifier: Apache-2.0
"""Which frames are hidden from the model, and among which it must choose.

wav2vec 2.0 (Baevski et al., 2020), section 3.1: some frames are starts, and
each hides itself and those after it; spans may overlap. Section 3.2: a masked
frame's distractors are other masked frames of the same clip.

Shapes: batch, frames; attended = the frames a frame may be told from.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax import metrics
from musiclm_jax.array_types import FrameMask, PRNGKey


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskingConfig:
  """How spans are drawn.

  Attributes:
    start_rate: Share of the frames that start a span. Ours: each frame by
      itself, where the paper draws that share of them.
    span_frames: Frames of a span; the end of the clip cuts it short.
  """

  start_rate: float = 0.065
  span_frames: int = 10

  def __post_init__(self):
    if not 0 < self.start_rate <= 1 or self.span_frames < 1:
      raise ValueError(
        f'Spans of {self.span_frames} frames at a rate of {self.start_rate}:'
        ' wanted are at least 1 frame and a rate within (0, 1].'
      )


def span_mask(
  key: PRNGKey, *, frame_mask: FrameMask, config: MaskingConfig
) -> FrameMask:
  """True where a valid frame is hidden."""
  starts = jax.random.bernoulli(key, config.start_rate, frame_mask.shape)
  # Starts up to each frame, less those whose span has ended.
  num_starts = jnp.cumsum(starts, axis=1)
  num_ended = jnp.pad(num_starts, ((0, 0), (config.span_frames, 0)))
  num_open = num_starts - num_ended[:, : starts.shape[1]]
  return (num_open > 0) & frame_mask


def distractor_weights(
  key: PRNGKey, *, masked: FrameMask, num_distractors: int
) -> Float[Array, 'batch frames attended']:
  """How often each frame is a distractor of each masked frame.

  Of the other masked frames `num_distractors` are drawn, once each. Where there
  are fewer, all of them are taken, and together weigh as much: what drawing
  them with replacement gives on average. As weights and not as indices, for
  gathers are slow, and their gradients slower.
  """
  frames = masked.shape[1]
  others = (
    masked[:, :, None] & masked[:, None, :] & ~jnp.eye(frames, dtype=bool)[None]
  )
  draws = jax.random.uniform(key, others.shape, minval=0.0, maxval=1.0)
  draws = jnp.where(others, draws, -1)
  num_others = jnp.sum(others, axis=-1, keepdims=True)
  if num_distractors < frames:
    least = jnp.sort(draws, axis=-1)[..., frames - num_distractors]
    chosen = others & (draws >= least[..., None])
  else:
    chosen = others
  dtype = metrics.accumulation_dtype(draws.dtype)
  weight = num_distractors / jnp.clip(num_others, 1, num_distractors)
  return jnp.where(chosen, weight.astype(dtype), 0)
