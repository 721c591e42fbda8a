# SPDX-License-Identifier: Apache-2.0
"""musicnn: 50 tags of MagnaTagATune, and the layer before them as an embedding.

musicnn: pre-trained convolutional neural networks for music audio tagging (Pons
and Serra, 2019); the network is that of End-to-end learning for music audio
tagging at scale (Pons et al., 2018). Weights are read from the package
`musicnn`, without TensorFlow. Patches of 187 frames (3 s) that do not overlap,
as its own extractor cuts them. Two things differ from it: power spectra are not
rounded to float16 before the logarithm (which turns loud music to infinity),
and a clip that is shorter than a patch repeats until it fills one, as in its
training.

Shapes: waveform [samples] at 16 kHz, mel [batch, frames, mels], embeddings
[patches, dim].

The network follows musicnn's model definition, whose notice is:

  Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code
  developed by Jordi Pons (www.jordipons.me).

  Permission to use, copy, modify, and/or distribute this software for any
  purpose with or without fee is hereby granted, provided that the above
  copyright notice and this permission notice appear in all copies.

  THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
  REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY
  AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
  INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM
  LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR
  OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
  PERFORMANCE OF THIS SOFTWARE.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax.array_types import Array, Waveform
from musiclm_jax.audio import framing, spectral
from musiclm_jax.evaluation.embedders import base, tensor_bundle

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 512
HOP_SAMPLES = 256
NUM_MELS = 96
PATCH_FRAMES = 187

# Of a patch, with half a window before its first frame and after its last.
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES

_WEIGHTS = 'MTT_musicnn'
_NUM_TIMBRAL, _NUM_FRONT, _NUM_CONVOLUTIONS = 2, 5, 8
_VARIANCE_FLOOR = 1e-3  # What tf.layers adds before the root.

Weights = Mapping[str, Array]


class Musicnn:
  """Embeds and tags clips; a `Classifier`.

  Attributes:
    name: 'musicnn'.
    sample_rate_hz: 16 kHz.
    dim: 200, the layer before the tags.
    window_seconds: Of a patch.
    hop_seconds: The same.
    classes: The tags.
    weights_sha256: Of the checkpoint.
  """

  name = 'musicnn'
  sample_rate_hz = SAMPLE_RATE_HZ
  window_seconds = hop_seconds = PATCH_FRAMES * HOP_SAMPLES / SAMPLE_RATE_HZ

  def __init__(
    self, weights: Weights, *, classes: Sequence[str], weights_sha256: str
  ):
    self.classes = tuple(classes)
    self.weights_sha256 = weights_sha256
    self.dim = weights['dense/bias'].size
    self._head = weights['dense_1/kernel'], weights['dense_1/bias']
    self._embed = base.BatchedProgram(_embed, weights)

  def embed(self, waveform: base.Clip) -> base.Frames:
    """The layer before the tags, of each patch."""
    half = WINDOW_SAMPLES // 2
    if 0 < waveform.size < PATCH_SAMPLES - 2 * half:
      waveform = np.resize(waveform, PATCH_SAMPLES - 2 * half)
    return self._embed(
      base.windows(
        np.pad(waveform, half),
        window_samples=PATCH_SAMPLES,
        hop_samples=PATCH_FRAMES * HOP_SAMPLES,
      )
    )

  def probabilities(
    self, embeddings: base.Frames
  ) -> Float[np.ndarray, 'frames classes']:
    """How likely each tag is, in each patch that was embedded."""
    kernel, bias = self._head
    logits = np.asarray(embeddings, np.float64) @ kernel + bias
    return 1 / (1 + np.exp(-logits))


def load() -> Musicnn:
  """The network trained on MagnaTagATune, from the installed package."""
  spec = importlib.util.find_spec('musicnn')
  if spec is None:
    raise ValueError(
      'The package musicnn, whose weights are wanted, is not installed: pip'
      ' install --no-deps musicnn==0.1.0'
    )
  from musicnn import configuration  # Names only; no TensorFlow.

  folder = pathlib.Path(spec.submodule_search_locations[0]) / _WEIGHTS
  files = folder / '.index', folder / '.data-00000-of-00001'
  return Musicnn(
    {
      name: array
      for name, array in tensor_bundle.read(*files).items()
      # Beside the optimizer's.
      if name.count('/') == 1 and '_power' not in name
    },
    classes=configuration.MTT_LABELS,
    weights_sha256=base.file_sha256(*files),
  )


def log_mel(patches: Waveform) -> Float[Array, 'batch frames mels']:
  """log10(10000 x + 1) of mel powers, as librosa makes them."""
  spectrum = spectral.stft(
    patches,
    window_samples=WINDOW_SAMPLES,
    hop_samples=HOP_SAMPLES,
    padding=framing.Padding.VALID,
  )
  # Ours has a window of unit energy, librosa's has height 1: 3/8 a sample.
  power = jnp.square(jnp.abs(spectrum)) * (WINDOW_SAMPLES * 3 / 8)
  mel = jnp.matmul(power, _filters(), precision=jax.lax.Precision.HIGHEST)
  return jnp.log10(10_000 * mel + 1)


def _embed(weights: Weights, patches: Waveform) -> Float[Array, 'batch dim']:
  """Front, middle and back of the network, up to the layer before the tags."""
  return _back(weights, _middle(weights, _front(weights, log_mel(patches))))


def _front(
  weights: Weights, mel: Float[Array, 'batch frames mels']
) -> Float[Array, 'batch frames channels']:
  """Filters over mels (timbre) and over time (rhythm), the best place each."""
  inputs = _normalize(weights, 0, mel[..., None])
  found = []
  for number in range(_NUM_FRONT):
    timbral = number < _NUM_TIMBRAL
    maps = _convolve(
      weights,
      number,
      _pad_frames(inputs) if timbral else inputs,
      padding='VALID' if timbral else 'SAME',
    )
    found.append(jnp.max(_normalize(weights, number + 1, maps), axis=2))
  return jnp.concatenate(found, axis=-1)


def _middle(
  weights: Weights, front: Float[Array, 'batch frames channels']
) -> Float[Array, 'batch frames features']:
  """Three convolutions over time, the last two residual; all are kept."""
  kept = [front]
  for number in range(_NUM_FRONT, _NUM_CONVOLUTIONS):
    maps = _pad_frames(kept[-1][..., None])
    maps = _convolve(weights, number, maps, padding='VALID')[:, :, 0]
    maps = _normalize(weights, number + 1, maps)
    kept.append(maps if number == _NUM_FRONT else maps + kept[-1])
  return jnp.concatenate(kept, axis=-1)


def _back(
  weights: Weights, features: Float[Array, 'batch frames features']
) -> Float[Array, 'batch dim']:
  """Greatest and mean over time, feature by feature; a dense layer."""
  pooled = [jnp.max(features, axis=1), jnp.mean(features, axis=1)]
  pooled = jnp.stack(pooled, axis=-1).reshape(len(features), -1)
  number = _NUM_CONVOLUTIONS + 1
  pooled = _normalize(weights, number, pooled)
  dense = jnp.matmul(
    pooled, weights['dense/kernel'], precision=jax.lax.Precision.HIGHEST
  )
  dense = jax.nn.relu(dense + weights['dense/bias'][None])
  return _normalize(weights, number + 1, dense)


def _convolve(
  weights: Weights, number: int, inputs: jax.Array, *, padding: str
) -> jax.Array:
  name = _numbered('conv2d', number)
  maps = jax.lax.conv_general_dilated(
    inputs,
    weights[f'{name}/kernel'],
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST,
  )
  return jax.nn.relu(maps + weights[f'{name}/bias'][None, None, None])


def _normalize(weights: Weights, number: int, inputs: jax.Array) -> jax.Array:
  """Batch normalisation by the means and variances of its training."""
  name = _numbered('batch_normalization', number)
  mean, variance, scale, shift = (
    weights[f'{name}/{part}']
    for part in ('moving_mean', 'moving_variance', 'gamma', 'beta')
  )
  scale = scale * jax.lax.rsqrt(variance + _VARIANCE_FLOOR)
  axes = tuple(range(inputs.ndim - 1))
  shift = shift - mean * scale
  return inputs * jnp.expand_dims(scale, axes) + jnp.expand_dims(shift, axes)


def _pad_frames(inputs: Float[Array, 'batch frames features 1']) -> jax.Array:
  return jnp.pad(inputs, ((0, 0), (3, 3), (0, 0), (0, 0)))


def _numbered(name: str, number: int) -> str:
  return f'{name}_{number}' if number else name


@functools.cache
def _filters() -> Float[np.ndarray, 'bins mels']:
  import librosa  # Of the extra `eval`.

  bank = librosa.filters.mel(
    sr=SAMPLE_RATE_HZ, n_fft=WINDOW_SAMPLES, n_mels=NUM_MELS
  )
  return np.ascontiguousarray(bank.T)
