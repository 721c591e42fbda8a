# SPDX-License-Identifier: Apache-2.0
"""What an embedder is to the metrics, and how one is run over many windows.

An embedder hears one clip at its own rate and gives a vector for each window of
it; a classifier also tells, from such a vector, how likely each of its classes
is. A metric takes any of them and reports it by name and by the hash of its
weights, since a figure of one embedder says nothing about that of another.

Shapes: waveform [samples] at the embedder's rate, embeddings [frames, dim] of
one window each, probabilities [frames, classes].
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float

Clip = Float[np.ndarray, ' samples']
Frames = Float[np.ndarray, 'frames dim']


@runtime_checkable
class Embedder(Protocol):
  """Vectors of music.

  Attributes:
    name: As reports have it.
    sample_rate_hz: That it hears; resampling to it is the caller's.
    dim: Of a vector.
    window_seconds: What a vector stands for. A clip that is shorter is repeated
      until it fills one.
    hop_seconds: From one vector to the next.
    weights_sha256: Of the weights, as a file or as a bundle's fingerprint.
  """

  name: str
  sample_rate_hz: int
  dim: int
  window_seconds: float
  hop_seconds: float
  weights_sha256: str

  def embed(self, waveform: Clip) -> Frames:
    """One vector for each whole window; at least one."""
    ...


@runtime_checkable
class Classifier(Embedder, Protocol):
  """An embedder that tells classes from its vectors.

  Attributes:
    classes: Their names.
  """

  classes: tuple[str, ...]

  def probabilities(
    self, embeddings: Frames
  ) -> Float[np.ndarray, 'frames classes']:
    """How likely each class is: by itself, or of all classes together."""
    ...


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
  """An embedder whose vectors, of length one, stand beside those of texts."""

  def embed_text(self, texts: Sequence[str]) -> Float[np.ndarray, 'texts dim']:
    """One vector of length one for each text."""
    ...


def windows(
  waveform: Clip, *, window_samples: int, hop_samples: int
) -> Float[np.ndarray, 'windows window']:
  """The whole windows of a clip; a shorter one repeats until it fills one."""
  if waveform.ndim != 1 or not waveform.size:
    raise ValueError(
      f'A clip of at least one sample, [samples], is wanted, not'
      f' {list(waveform.shape)}.'
    )
  if waveform.size < window_samples:
    waveform = np.resize(waveform, window_samples)
  views = np.lib.stride_tricks.sliding_window_view(waveform, window_samples)
  return views[::hop_samples]


class BatchedProgram:
  """A compiled function of rows, run on any number of them over all devices.

  Batches have one size, so that there is one program and no result depends on
  how many rows come with it; the rows of a batch are spread over the devices.
  """

  def __init__(
    self,
    function: Callable[[Mapping[str, Any], jax.Array], jax.Array],
    weights: Mapping[str, Any],
    *,
    rows_at_a_time: int = 8,
  ):
    """Places the weights on every device of this process.

    Args:
      function: Of weights and rows, row by row.
      weights: Its first argument.
      rows_at_a_time: At the least; a multiple of the number of devices.
    """
    devices = np.array(jax.local_devices())
    mesh = jax.sharding.Mesh(devices, ('data',))
    spec = jax.sharding.PartitionSpec
    self._rows = jax.sharding.NamedSharding(mesh, spec('data'))
    everywhere = jax.sharding.NamedSharding(mesh, spec())
    self._weights = jax.device_put(dict(weights), everywhere)
    self._size = -(-rows_at_a_time // devices.size) * devices.size
    self._run = jax.jit(function)

  def __call__(self, rows: np.ndarray) -> np.ndarray:
    """The results of all rows; of at least one."""
    done = []
    for start in range(0, len(rows), self._size):
      part = np.zeros((self._size, *rows.shape[1:]), np.float32)
      num_rows = len(rows[start : start + self._size])
      part[:num_rows] = rows[start : start + self._size]
      found = self._run(self._weights, jax.device_put(part, self._rows))
      done.append(np.asarray(found)[:num_rows])
    return np.concatenate(done)


def file_sha256(*paths: str | os.PathLike[str]) -> str:
  """One hash over files, in this order."""
  digest = hashlib.sha256()
  for path in paths:
    with open(path, 'rb') as file:
      while part := file.read(1 << 20):
        digest.update(part)
  return digest.hexdigest()
