# SPDX-License-Identifier: Apache-2.0
"""Mean and variance of a stream of points, and points brought to 0 and 1.

A block's own mean and squared deviations are taken on the devices; blocks are
joined on the host in float64, by Chan, Golub and LeVeque, "Updating formulae
and a pairwise algorithm for computing sample variances" (1979), equation 2.1.

Shapes: points are [points, dim].
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float64

from musiclm_jax import metrics
from musiclm_jax.array_types import Array

# Of the largest deviation: below it, a dimension holds rounding noise alone.
_CONSTANT = 1e-6


@flax.struct.dataclass
class Scaler:
  """Brings each dimension to mean 0 and variance 1.

  Attributes:
    mean: Subtracted first.
    deviation: Divided by then; 1 for a dimension that does not vary.
  """

  mean: Float[Array, ' dim']
  deviation: Float[Array, ' dim']

  def __call__(
    self, points: Float[Array, '*points dim']
  ) -> Float[jax.Array, '*points dim']:
    shape = (1,) * (points.ndim - 1) + self.mean.shape
    points = jnp.asarray(points, metrics.accumulation_dtype(points.dtype))
    mean = jnp.asarray(self.mean, points.dtype).reshape(shape)
    deviation = jnp.asarray(self.deviation, points.dtype).reshape(shape)
    return (points - mean) / deviation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
  """Count, mean and squared deviations of the points so far.

  Attributes:
    count: Of points.
    mean: Of each dimension.
    squares: Sum of the squared deviations from the mean.
  """

  count: int
  mean: Float64[np.ndarray, ' dim']
  squares: Float64[np.ndarray, ' dim']

  @classmethod
  def of(
    cls,
    points: Float[Array, 'points dim'],
    *,
    mask: Bool[Array, ' points'],
  ) -> Moments:
    """Of the valid points of one block."""
    count, mean, squares = jax.device_get(_moments(points, mask))
    return cls(
      count=int(count),
      mean=np.asarray(mean, np.float64),
      squares=np.asarray(squares, np.float64),
    )

  def __add__(self, other: Moments) -> Moments:
    count = self.count + other.count
    if count == 0:
      return self
    shift = other.mean - self.mean
    return Moments(
      count=count,
      mean=self.mean + shift * other.count / count,
      squares=self.squares
      + other.squares
      + shift**2 * self.count * other.count / count,
    )

  def scaler(self) -> Scaler:
    """In float32, as it is published.

    Raises:
      ValueError: There are no points, or they are not finite.
    """
    if not self.count:
      raise ValueError('There are no points to take a variance of.')
    deviation = np.sqrt(self.squares / self.count)
    if not np.isfinite(deviation).all():
      raise ValueError(
        'Some features are NaN or infinite; is the model trained?'
      )
    constant = deviation <= _CONSTANT * deviation.max()
    return Scaler(
      mean=self.mean.astype(np.float32),
      deviation=np.where(constant, 1, deviation).astype(np.float32),
    )


@jax.jit
def _moments(
  points: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  dtype = metrics.accumulation_dtype(points.dtype)
  weight = mask[:, None]
  points = jnp.where(weight, points, 0).astype(dtype)
  count = jnp.sum(mask)
  mean = jnp.sum(points, axis=0) / jnp.maximum(count, 1).astype(dtype)
  deviations = jnp.where(weight, points - mean[None], 0)
  return count, mean, jnp.sum(deviations**2, axis=0)
