# SPDX-License-Identifier: Apache-2.0
"""VGGish: the embedding of the paper's FAD, from a file of weights.

CNN architectures for large-scale audio classification (Hershey et al., 2017), as
released with AudioSet, and as Fréchet Audio Distance (Kilgour et al., 2019) and
MusicLM (Agostinelli et al., 2023, section 5.1) use it: windows of 0.96 s that do
not overlap, 128 values after the last ReLU, without the PCA and the rounding to
8 bits of AudioSet's features. Weights are a state dict of PyTorch with the names
of the common ports (`features.0.weight` to `embeddings.4.bias`), as .pth or
.safetensors; they come with no package.

Shapes: waveform [samples] at 16 kHz, mel [batch, frames, mels], embeddings
[windows, dim].
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax.array_types import Array, Waveform
from musiclm_jax.audio import framing, spectral
from musiclm_jax.evaluation.embedders import base, state_dict

SAMPLE_RATE_HZ = 16_000
WINDOW_FRAMES = 96

_FRAME_SAMPLES, _HOP_SAMPLES, _FFT_SAMPLES = 400, 160, 512
_NUM_MELS, _LOW_HZ, _HIGH_HZ = 64, 125.0, 7_500.0
_FLOOR = 0.01  # Added to mel magnitudes before the logarithm.
_WINDOW_SAMPLES = (WINDOW_FRAMES - 1) * _HOP_SAMPLES + _FRAME_SAMPLES

# Places in the state dict; between groups of convolutions, and after the last,
# the greatest of 2 x 2 is kept.
_CONVOLUTIONS = ((0,), (3,), (6, 8), (11, 13))
_DENSE = (0, 2, 4)

Weights = Mapping[str, Array]


class Vggish:
  """Embeds clips; an `Embedder`.

  Attributes:
    name: 'vggish'.
    sample_rate_hz: 16 kHz.
    dim: 128.
    window_seconds: 0.96.
    hop_seconds: The same.
    weights_sha256: Of the file.
  """

  name = 'vggish'
  sample_rate_hz = SAMPLE_RATE_HZ
  window_seconds = hop_seconds = WINDOW_FRAMES * _HOP_SAMPLES / SAMPLE_RATE_HZ

  def __init__(self, weights: Weights, *, weights_sha256: str):
    self.weights_sha256 = weights_sha256
    self.dim = weights[f'embeddings.{_DENSE[-1]}.bias'].size
    self._embed = base.BatchedProgram(
      lambda weights, rows: embed_mel(weights, log_mel(rows)), weights
    )

  def embed(self, waveform: base.Clip) -> base.Frames:
    """128 values for each whole window."""
    return self._embed(
      base.windows(
        waveform,
        window_samples=_WINDOW_SAMPLES,
        hop_samples=WINDOW_FRAMES * _HOP_SAMPLES,
      )
    )


def load(path: str | os.PathLike[str]) -> Vggish:
  """The network of a file of weights.

  Raises:
    ValueError: The file lacks a layer, or is no state dict.
  """
  weights, path = state_dict.read(path, of='VGGish')
  return Vggish(
    state_dict.select(weights, _names(), path=path, of='VGGish'),
    weights_sha256=base.file_sha256(path),
  )


def log_mel(windows: Waveform) -> Float[Array, 'batch frames mels']:
  """Logarithms of mel magnitudes, as AudioSet's release makes them."""
  frames = spectral.frame_signal(
    windows,
    frame_samples=_FRAME_SAMPLES,
    hop_samples=_HOP_SAMPLES,
    padding=framing.Padding.VALID,
  )
  phase = 2 * np.pi * np.arange(_FRAME_SAMPLES) / _FRAME_SAMPLES
  window = jnp.asarray(0.5 - 0.5 * np.cos(phase), frames.dtype)
  spectrum = jnp.abs(jnp.fft.rfft(frames * window[None, None], _FFT_SAMPLES))
  mel = jnp.matmul(
    spectrum,
    jnp.asarray(_filters(), spectrum.dtype),
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.log(mel + _FLOOR)


def embed_mel(
  weights: Weights, mel: Float[Array, 'batch frames mels']
) -> Float[Array, 'batch dim']:
  """The network."""
  maps = mel[..., None]
  for group in _CONVOLUTIONS:
    for place in group:
      maps = jax.lax.conv_general_dilated(
        maps,
        weights[f'features.{place}.weight'],
        window_strides=(1, 1),
        padding='SAME',
        dimension_numbers=('NHWC', 'OIHW', 'NHWC'),
        precision=jax.lax.Precision.HIGHEST,
      )
      bias = weights[f'features.{place}.bias']
      maps = jax.nn.relu(maps + bias[None, None, None])
    maps = jax.lax.reduce_window(
      maps, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID'
    )
  hidden = maps.reshape(len(maps), -1)  # [batch, frames * mels * maps]
  for place in _DENSE:
    hidden = jnp.matmul(
      hidden,
      weights[f'embeddings.{place}.weight'].T,
      precision=jax.lax.Precision.HIGHEST,
    )
    hidden = jax.nn.relu(hidden + weights[f'embeddings.{place}.bias'][None])
  return hidden


@functools.cache
def _filters() -> Float[np.ndarray, 'bins mels']:
  """Triangles that are straight over mel, not over Hz; 0 Hz is in none."""
  hertz = np.arange(_FFT_SAMPLES // 2 + 1) * SAMPLE_RATE_HZ / _FFT_SAMPLES
  mels = _mel(hertz)[:, None]
  edges = np.linspace(_mel(_LOW_HZ), _mel(_HIGH_HZ), _NUM_MELS + 2)
  left, centre, right = edges[:-2], edges[1:-1], edges[2:]
  rising = (mels - left) / (centre - left)
  falling = (right - mels) / (right - centre)
  filters = np.maximum(0, np.minimum(rising, falling))
  filters[0] = 0
  return filters


def _mel(hertz: np.ndarray | float) -> np.ndarray | float:
  return 1127 * np.log(1 + np.asarray(hertz) / 700)


def _names() -> list[str]:
  places = [f'features.{n}' for group in _CONVOLUTIONS for n in group]
  places += [f'embeddings.{n}' for n in _DENSE]
  return [f'{place}.{part}' for place in places for part in ('weight', 'bias')]
