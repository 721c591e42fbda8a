# SPDX-License-Identifier: Apache-2.0
"""Weighted means: figures that add up exactly.

A loss or a metric is kept as (sum, weight), never as a mean. Sums over masks,
microbatches, shards and evaluation batches are then exact, and a mean is taken
once, when a figure is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from musiclm_jax.array_types import Array, Variables


@flax.struct.dataclass
class WeightedMean:
  """A sum and the weight it was taken over.

  Attributes:
    total: Sum of value × weight, at least float32.
    weight: Sum of the weights.
  """

  # Not typed as arrays: the same tree also holds shapes and shardings.
  total: Any
  weight: Any

  @classmethod
  def of(
    cls, values: Array | float, weights: Array | float | None = None
  ) -> WeightedMean:
    """Sums `values`; `weights` (or a mask) broadcasts to them, 1 if left out."""
    values = jnp.asarray(values)
    values = values.astype(accumulation_dtype(values.dtype))
    if weights is None:
      return cls(jnp.sum(values), jnp.asarray(values.size, values.dtype))
    weights = jnp.broadcast_to(weights, values.shape).astype(values.dtype)
    # Where the weight is 0 a value may be anything, NaN included.
    total = jnp.sum(jnp.where(weights != 0, values * weights, 0))
    return cls(total, jnp.sum(weights))

  def __add__(self, other: WeightedMean) -> WeightedMean:
    return WeightedMean(self.total + other.total, self.weight + other.weight)

  def scale(self, factor: float) -> WeightedMean:
    """The mean times `factor`, over the same weight."""
    return WeightedMean(self.total * factor, self.weight)

  @property
  def mean(self) -> jax.Array:
    """0 where nothing was counted, so that an empty mask gives no NaN."""
    return self.total / jnp.where(self.weight == 0, 1, self.weight)


@flax.struct.dataclass
class Histogram:
  """How often each value of a code was seen.

  Counts add up over batches where entropies do not: those of a whole data set
  are taken from its whole histogram.

  Attributes:
    counts: One a value, at least float32; probabilities may be counted too.
  """

  counts: Any

  @classmethod
  def of(cls, codes: Array, mask: Array, *, num_values: int) -> Histogram:
    """Counts `codes`, in [0, num_values), where `mask` is True."""
    rows = jnp.where(mask, codes, -1).reshape(-1, 1)
    # Compared and summed: a scatter is slow on every accelerator.
    is_value = rows == jnp.arange(num_values)[None]
    return cls(jnp.sum(is_value, axis=0, dtype=accumulation_dtype(jnp.float32)))

  def __add__(self, other: Histogram) -> Histogram:
    return Histogram(self.counts + other.counts)

  @property
  def shares(self) -> jax.Array:
    """Of each value; all 0 where nothing was counted."""
    total = jnp.sum(self.counts)
    return self.counts / jnp.where(total == 0, 1, total)

  @property
  def entropy(self) -> jax.Array:
    """In nats: the cross-entropy of who knows the shares and nothing else."""
    return -jnp.sum(jax.scipy.special.xlogy(self.shares, self.shares))

  @property
  def perplexity(self) -> jax.Array:
    """How many equally likely values would carry as much."""
    return jnp.exp(self.entropy)

  @property
  def largest_share(self) -> jax.Array:
    """The accuracy of who always says the most frequent value."""
    return jnp.max(self.shares)

  def figures(self) -> dict[str, jax.Array]:
    """All of the above, by name."""
    return {
      'entropy': self.entropy,
      'perplexity': self.perplexity,
      'largest_share': self.largest_share,
    }


@flax.struct.dataclass
class LossOutput:
  """What an objective's loss returns.

  Attributes:
    loss: The loss, to be minimised, as a weighted mean over the batch.
    metrics: Figures to log, named by path: 'codec/reconstruction/mel'.
    updates: New values of collections other than 'params' (codebook
      statistics, say); empty if there are none.
  """

  loss: WeightedMean
  metrics: Mapping[str, WeightedMean] = flax.struct.field(default_factory=dict)
  updates: Variables = flax.struct.field(default_factory=dict)


@flax.struct.dataclass
class Evaluation:
  """What an objective shows of held-out examples.

  Attributes:
    metrics: Figures to log, named by path.
    histograms: Of codes, by path; shown are the figures of their sums.
    waveforms: Audio to listen to, by name ('original', 'reconstruction'), each
      [batch, samples]; empty for a model that makes none.
  """

  metrics: Mapping[str, WeightedMean]
  histograms: Mapping[str, Histogram] = flax.struct.field(default_factory=dict)
  waveforms: Mapping[str, Any] = flax.struct.field(default_factory=dict)


def accumulation_dtype(dtype: Any) -> jnp.dtype:
  """float32 for half precision, and never less than what came in.

  Losses, statistics, distances and spectra are taken in this type. Under x64 it
  stays float64, which the tests of meshes rely on.
  """
  return jnp.promote_types(dtype, jnp.float32)
