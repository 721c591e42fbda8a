# SPDX-License-Identifier: Apache-2.0
"""Mean and covariance of embeddings that need not be held at once, in float64.

Those of parts are merged (Chan et al., 1979, Updating formulae and a pairwise
algorithm for computing sample variances). Parts of a fixed size are spread over
the devices: each sums its own rows, and one sum over devices follows; what
fills no such part, and so every small set, is taken by NumPy, without a
compilation. A TPU has no float64 in hardware: there, and wherever the platform
is neither CPU nor GPU, the host's CPU takes the sums.

Shapes: embeddings [frames, dim] of one clip, rows [batch, dim] of many, scatter
[dim, dim].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from musiclm_jax.array_types import Array

ROWS_AT_A_TIME = 8_192  # Of 512 dimensions, 32 MiB.

_WITH_FLOAT64 = ('cpu', 'gpu')

Embeddings = Float[np.ndarray, '_ dim']  # Clips differ in length.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
  """What of a set counts.

  Attributes:
    count: Samples.
    mean: Of them.
    scatter: The sum of the outer products of their deviations from it.
  """

  count: int
  mean: Float[np.ndarray, ' dim']
  scatter: Float[np.ndarray, 'dim dim']

  @classmethod
  def of(cls, embeddings: Embeddings) -> Moments:
    """Of one sample or more."""
    embeddings = checked(embeddings)
    mean = embeddings.mean(axis=0)
    deviations = embeddings - mean
    return cls(
      count=len(embeddings), mean=mean, scatter=deviations.T @ deviations
    )

  def merge(self, other: Moments) -> Moments:
    """Those of both sets together."""
    count = self.count + other.count
    apart = other.mean - self.mean
    shift = self.count * other.count / count * np.outer(apart, apart)
    return Moments(
      count=count,
      mean=self.mean + apart * (other.count / count),
      scatter=self.scatter + other.scatter + shift,
    )

  @property
  def covariance(self) -> Float[np.ndarray, 'dim dim']:
    """Over count - 1; of one sample, zeros."""
    return self.scatter / max(self.count - 1, 1)


def moments_of(clips: Iterable[Embeddings]) -> Moments:
  """Of all clips, some clips at a time."""
  found = None
  for rows in _parts(clips):
    is_whole = len(rows) == ROWS_AT_A_TIME
    part = on_devices(rows) if is_whole else Moments.of(rows)
    found = part if found is None else found.merge(part)
  if found is None:
    raise ValueError('There is no clip to take moments of; give at least 1.')
  return found


def on_devices(
  rows: Float[np.ndarray, 'batch dim'],
  *,
  devices: Sequence[jax.Device] | None = None,
) -> Moments:
  """Of rows that are spread over devices, those of this process if left out."""
  devices = np.array(devices or float64_devices())
  spread = jax.sharding.NamedSharding(
    jax.sharding.Mesh(devices, ('data',)), jax.sharding.PartitionSpec('data')
  )
  missing = -len(rows) % devices.size
  padded = np.pad(np.asarray(rows, np.float64), ((0, missing), (0, 0)))
  is_row = np.arange(len(padded)) < len(rows)
  with jax.enable_x64(True):
    mean, scatter = _moments(*jax.device_put((padded, is_row), spread))
    return Moments(
      count=len(rows), mean=np.asarray(mean), scatter=np.asarray(scatter)
    )


def float64_devices() -> list[jax.Device]:
  """Devices of this process that calculate in float64."""
  has_float64 = jax.default_backend() in _WITH_FLOAT64
  return jax.local_devices(backend=None if has_float64 else 'cpu')


@jax.jit
def _moments(
  rows: Float[Array, 'batch dim'], is_row: Bool[Array, ' batch']
) -> tuple[Float[Array, ' dim'], Float[Array, 'dim dim']]:
  """Mean and scatter; rows that are none are zeros."""
  mean = jnp.sum(rows, axis=0) / jnp.sum(is_row)
  deviations = jnp.where(is_row[:, None], rows - mean[None], 0)
  return mean, deviations.T @ deviations


def _parts(clips: Iterable[Embeddings]) -> Iterator[Embeddings]:
  """All rows, as many at a time, the last part smaller."""
  held: list[Embeddings] = []
  count = 0  # A sum over many short clips, clip by clip, would take longest.
  for clip in clips:
    held.append(checked(clip))
    count += len(clip)
    while count >= ROWS_AT_A_TIME:
      rows = np.concatenate(held)
      yield rows[:ROWS_AT_A_TIME]
      held = [rows[ROWS_AT_A_TIME:]]
      count -= ROWS_AT_A_TIME
  if count:
    yield np.concatenate(held)


def checked(embeddings: Embeddings) -> Float[np.ndarray, '_ dim']:
  """In float64; raises unless they are finite, and one sample at least."""
  if embeddings.ndim != 2 or not len(embeddings):
    raise ValueError(
      f'Embeddings are [frames, dim], one frame at least, not'
      f' {list(embeddings.shape)}.'
    )
  embeddings = np.asarray(embeddings, np.float64)
  if not np.isfinite(embeddings).all():
    raise ValueError(
      'Some embeddings are NaN or infinite; look for the clip that they are'
      ' of, and whether the weights are whole.'
    )
  return embeddings
