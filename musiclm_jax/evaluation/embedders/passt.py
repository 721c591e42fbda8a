# SPDX-License-Identifier: Apache-2.0
"""PaSST: 527 classes of AudioSet, and the mean of its two tokens as an embedding.

Efficient training of audio transformers with patchout (Koutini et al., 2022), the
model that later papers take for their KLD: PaSST-S with patches of 16 that start
every 10, a Vision Transformer with a class and a distillation token, whose places
in time and in frequency have embeddings of their own. Patchout is of training
alone. Weights are a state dict of PyTorch with the names of its authors'
(`patch_embed.proj.weight` to `head.1.bias`), as .pt or .safetensors; they come
with no package.

As in the metrics of Simple and controllable music generation (Copet et al., 2023):
windows of 10 s that do not overlap, and the softmax of the logits, although the
network was trained on classes that do not exclude each other. Ours: what does not
fill a last window is not heard, and a shorter clip repeats until it fills one.

Shapes: waveform [samples] at 32 kHz, mel [batch, mels, frames], tokens [batch,
length, embed], embeddings [windows, embed].
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float

from musiclm_jax.array_types import Array, Waveform
from musiclm_jax.audio import framing, spectral
from musiclm_jax.evaluation.embedders import base, state_dict

SAMPLE_RATE_HZ = 32_000
WINDOW_SAMPLES = 10 * SAMPLE_RATE_HZ

_FRAME_SAMPLES, _HOP_SAMPLES, _FFT_SAMPLES = 800, 320, 1024
_NUM_MELS, _HIGH_HZ = 128, 15_000.0
_PREEMPHASIS = 0.97
_FLOOR, _SHIFT, _SCALE = 1e-5, 4.5, 5.0  # log(x + floor), moved and divided.

_STRIDE = 10  # Of patches, in mels and in frames.
_HEAD_DIM = 64
_NORM_EPSILON, _HEAD_EPSILON = 1e-6, 1e-5
_HEAD_NORM, _HEAD = 'head.0', 'head.1'

Weights = Mapping[str, Array]
Mel = Float[Array, 'batch mels frames']


class Passt:
  """Embeds and classifies clips; a `Classifier`.

  Attributes:
    name: 'passt'.
    sample_rate_hz: 32 kHz.
    dim: 768, of the mean of both tokens.
    window_seconds: 10.
    hop_seconds: The same.
    classes: 'AudioSet 0' to 'AudioSet 526', places in the list of classes that
      was published with AudioSet.
    weights_sha256: Of the file.
  """

  name = 'passt'
  sample_rate_hz = SAMPLE_RATE_HZ
  window_seconds = hop_seconds = WINDOW_SAMPLES / SAMPLE_RATE_HZ

  def __init__(self, weights: Weights, *, weights_sha256: str):
    self.weights_sha256 = weights_sha256
    self._head = {
      name: np.asarray(weights[name], np.float64)
      for name in _with_bias(_HEAD_NORM, _HEAD)
    }
    self.dim = self._head['head.0.bias'].size
    num_classes = self._head['head.1.bias'].size
    self.classes = tuple(f'AudioSet {n}' for n in range(num_classes))
    body = {k: v for k, v in weights.items() if k not in self._head}
    self._embed = base.BatchedProgram(
      lambda weights, rows: embed_mel(weights, log_mel(rows)),
      body,
      rows_at_a_time=1,  # Most clips are one window.
    )

  def embed(self, waveform: base.Clip) -> base.Frames:
    """The mean of both tokens, of each whole window."""
    return self._embed(
      base.windows(
        waveform, window_samples=WINDOW_SAMPLES, hop_samples=WINDOW_SAMPLES
      )
    )

  def probabilities(
    self, embeddings: base.Frames
  ) -> Float[np.ndarray, 'frames classes']:
    """Of all classes together: rows add up to 1."""
    rows = np.asarray(embeddings, np.float64)
    rows = rows - rows.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(rows.var(axis=-1, keepdims=True) + _HEAD_EPSILON)
    head = self._head
    rows = rows / deviation * head['head.0.weight'] + head['head.0.bias']
    logits = rows @ head['head.1.weight'].T + head['head.1.bias']
    return scipy.special.softmax(logits, axis=-1)


def load(path: str | os.PathLike[str]) -> Passt:
  """The network of a file of weights.

  Raises:
    ValueError: The file lacks a layer, or is no state dict.
  """
  weights, path = state_dict.read(path, of='PaSST')
  names = [*_names(num_layers=num_layers_of(weights))]
  return Passt(
    state_dict.select(weights, names, path=path, of='PaSST'),
    weights_sha256=base.file_sha256(path),
  )


def log_mel(windows: Waveform) -> Mel:
  """Logarithms of mel powers, moved to lie about 0."""
  # The first sample is lost, as a difference of neighbours has none.
  windows = windows[:, 1:] - _PREEMPHASIS * windows[:, :-1]
  half = _FFT_SAMPLES // 2
  beside = (_FFT_SAMPLES - _FRAME_SAMPLES) // 2
  # Frames are centred in transforms that are longer than they.
  windows = jnp.pad(windows, ((0, 0), (half, half)), mode='reflect')
  frames = spectral.frame_signal(
    windows[:, beside : windows.shape[1] - beside],
    frame_samples=_FRAME_SAMPLES,
    hop_samples=_HOP_SAMPLES,
    padding=framing.Padding.VALID,
  )
  phase = 2 * np.pi * np.arange(_FRAME_SAMPLES) / (_FRAME_SAMPLES - 1)
  window = jnp.asarray(0.5 - 0.5 * np.cos(phase), frames.dtype)
  spectrum = jnp.fft.rfft(frames * window[None, None], _FFT_SAMPLES)
  mel = jnp.einsum(
    'bto,om->bmt',
    jnp.square(jnp.abs(spectrum)),
    jnp.asarray(_filters(), frames.dtype),
    precision=jax.lax.Precision.HIGHEST,
  )
  return (jnp.log(mel + _FLOOR) + _SHIFT) / _SCALE


def embed_mel(weights: Weights, mel: Mel) -> Float[Array, 'batch embed']:
  """The network up to the mean of both tokens."""
  tokens = _tokens(weights, mel)
  for layer in range(num_layers_of(weights)):
    name = f'blocks.{layer}'
    hidden = _normalize(weights, f'{name}.norm1', tokens)
    tokens += _attend(weights, f'{name}.attn', hidden)
    hidden = _normalize(weights, f'{name}.norm2', tokens)
    hidden = jax.nn.gelu(
      _dense(weights, f'{name}.mlp.fc1', hidden), approximate=False
    )
    tokens += _dense(weights, f'{name}.mlp.fc2', hidden)
  return jnp.mean(_normalize(weights, 'norm', tokens[:, :2]), axis=1)


def num_layers_of(weights: Mapping[str, object]) -> int:
  """Blocks of a state dict."""
  layers = (re.fullmatch(r'blocks\.(\d+)\.norm1\.weight', n) for n in weights)
  return 1 + max((int(found[1]) for found in layers if found), default=0)


def _tokens(weights: Weights, mel: Mel) -> Float[Array, 'batch length embed']:
  """Class and distillation token, then patches, frequency by frequency."""
  patches = jax.lax.conv_general_dilated(
    mel[:, None],
    weights['patch_embed.proj.weight'],
    window_strides=(_STRIDE, _STRIDE),
    padding='VALID',
    dimension_numbers=('NCHW', 'OIHW', 'NCHW'),
    precision=jax.lax.Precision.HIGHEST,
  )  # [batch, embed, rows, columns]
  bias = weights['patch_embed.proj.bias'][None, :, None, None]
  places = weights['time_new_pos_embed'][..., : patches.shape[3]]
  patches += bias + places + weights['freq_new_pos_embed']
  batch, embed_dim = patches.shape[:2]
  patches = patches.reshape(batch, embed_dim, -1).swapaxes(1, 2)
  first = jnp.concatenate([weights['cls_token'], weights['dist_token']], axis=1)
  first = jnp.broadcast_to(
    first + weights['new_pos_embed'], (batch, 2, embed_dim)
  )
  return jnp.concatenate([first, patches], axis=1)


def _attend(
  weights: Weights, name: str, hidden: Float[Array, 'batch length embed']
) -> Float[Array, 'batch length embed']:
  batch, length, embed_dim = hidden.shape
  heads = (batch, length, 3, embed_dim // _HEAD_DIM, _HEAD_DIM)
  queries, keys, values = jnp.moveaxis(
    _dense(weights, f'{name}.qkv', hidden).reshape(heads), 2, 0
  )
  product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  logits = product('bshk,brhk->bhsr', queries, keys) / _HEAD_DIM**0.5
  found = product('bhsr,brhk->bshk', jax.nn.softmax(logits), values)
  return _dense(weights, f'{name}.proj', found.reshape(hidden.shape))


def _dense(weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
  product = jnp.matmul(
    hidden,
    weights[f'{name}.weight'].T,
    precision=jax.lax.Precision.HIGHEST,
  )
  return product + weights[f'{name}.bias'][None, None]


def _normalize(weights: Weights, name: str, hidden: jax.Array) -> jax.Array:
  hidden = jax.nn.standardize(hidden, axis=-1, epsilon=_NORM_EPSILON)
  scale, shift = weights[f'{name}.weight'], weights[f'{name}.bias']
  return hidden * scale[None, None] + shift[None, None]


@functools.cache
def _filters() -> Float[np.ndarray, 'bins mels']:
  """Triangles that are straight over Kaldi's mel, from 0 Hz on."""
  hertz = np.arange(_FFT_SAMPLES // 2 + 1) * SAMPLE_RATE_HZ / _FFT_SAMPLES
  at = _mel(hertz)[:, None] * (_NUM_MELS + 1) / _mel(_HIGH_HZ)
  return np.maximum(0, 1 - np.abs(at - 1 - np.arange(_NUM_MELS)))


def _mel(hertz: np.ndarray | float) -> np.ndarray | float:
  return 1127 * np.log(1 + np.asarray(hertz) / 700)


def _names(*, num_layers: int) -> Iterator[str]:
  yield from ('cls_token', 'dist_token', 'new_pos_embed')
  yield from ('freq_new_pos_embed', 'time_new_pos_embed')
  yield from _with_bias('patch_embed.proj', 'norm', _HEAD_NORM, _HEAD)
  parts = ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
  for layer in range(num_layers):
    yield from _with_bias(*(f'blocks.{layer}.{part}' for part in parts))


def _with_bias(*names: str) -> list[str]:
  return [f'{name}.{part}' for name in names for part in ('weight', 'bias')]
