# SPDX-License-Identifier: Apache-2.0
"""Residual vector quantization: latents to codes and back.

Level q quantizes what levels 0..q-1 left over, so codes[..., :k] alone decode
to a coarser signal. SoundStream (Zeghidour et al., 2021), section III-C and
algorithm 1; quantizer dropout is its section III-C, "bitrate scalability".
Factorized, l2-normalized codes are those of Kumar et al., "High-Fidelity Audio
Compression with Improved RVQGAN" (2023), section 3.2, but their codebooks too
are moving averages (ours).

Shapes: latents are [batch, frames, embed], codes [batch, frames, levels].

Training is applying with the collection `CODEBOOKS` mutable: the first such
batch starts every level by k-means, each one moves the averages.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import axes, metrics
from musiclm_jax.array_types import Array, Codes, FrameMask, Latents, PRNGKey
from musiclm_jax.layers import parameters
from musiclm_jax.quantization import kmeans, vector

_EXACT = jax.lax.Precision.HIGHEST  # Codes are float32 on every backend.

CODEBOOKS = 'codebooks'  # collection of the codes and their averages


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualQuantizerConfig:
  """Sizes of a residual quantizer and how its codebooks follow the latents.

  Attributes:
    num_levels: Residual codebooks.
    codebook_size: Codes of each.
    factorized_dim: Width of the space that codes are searched in, by cosine,
      with a projection in and out at each level; None searches the latents
      themselves.
    decay: Share of the moving averages kept at a batch.
    dead_code_threshold: Average count a batch below which a code is replaced.
      A batch of fewer frames than threshold x codebook_size cannot keep every
      code alive: lower it for small batches.
    kmeans_iterations: Lloyd iterations on the first batch.
    dropout_rate: Share of the training examples that keep a random number of
      levels, 1 to `num_levels`, instead of all.
  """

  num_levels: int
  codebook_size: int
  factorized_dim: int | None = None
  decay: float = 0.99
  dead_code_threshold: float = 2.0
  kmeans_iterations: int = 10
  dropout_rate: float = 1.0

  def __post_init__(self):
    if self.num_levels < 1 or self.codebook_size < 2:
      raise ValueError(
        f'A residual quantizer has at least 1 level of 2 codes, not'
        f' {self.num_levels} of {self.codebook_size}.'
      )
    for name in ('decay', 'dropout_rate'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'{name} is {getattr(self, name)}, not within [0, 1].')


@flax.struct.dataclass
class Quantized:
  """What training gets of a quantizer.

  Attributes:
    latents: Sum of the levels that were kept; its gradient goes to the input
      as if nothing had been quantized.
    codes: Of all levels, kept or not.
    commitment: Mean squared distance of each kept level's input to its code.
    perplexity: Of each level's codes over the valid frames of the batch.
    usage: Share of each level's codes that the batch chose.
  """

  latents: Latents
  codes: Codes
  commitment: metrics.WeightedMean
  perplexity: Float[Array, ' levels']
  usage: Float[Array, ' levels']


@flax.struct.dataclass
class _Level:
  """A level, or a stack of them; has no projections unless factorized."""

  codebook: vector.Codebook
  project_in: Float[Array, '*levels embed dim'] | None
  project_out: Float[Array, '*levels dim embed'] | None

  def inner(self, residual: jax.Array) -> jax.Array:
    """The residual in the space of the codebook."""
    if self.project_in is None:
      return residual
    return jnp.matmul(residual, self.project_in, precision=_EXACT)

  def outer(self, inner: jax.Array) -> jax.Array:
    """A vector of the codebook's space among the latents."""
    if self.project_out is None:
      return inner
    return jnp.matmul(inner, self.project_out, precision=_EXACT)

  def search(self, inner: jax.Array) -> jax.Array:
    """The code of each row: the nearest, or by cosine if factorized."""
    embeddings = self.codebook.embeddings
    if self.project_in is not None:
      inner, embeddings = _unit(inner), _unit(embeddings)
    return kmeans.nearest(inner, embeddings)[0]


class ResidualQuantizer(nn.Module):
  """A stack of codebooks.

  Attributes:
    config: Sizes.
    embed_dim: Width of the latents.
    param_dtype: Stored type of the projections; codebooks are at least float32.
  """

  config: ResidualQuantizerConfig
  embed_dim: int
  param_dtype: Any = jnp.float32

  def setup(self) -> None:
    config = self.config
    code_dim = config.factorized_dim or self.embed_dim
    shape = (config.num_levels, config.codebook_size, code_dim)
    dtype = metrics.accumulation_dtype(self.param_dtype)
    self._embeddings = self._statistic(
      'embeddings',
      lambda: jax.random.normal(self.make_rng('params'), shape, dtype),
      (axes.LEVELS, axes.CODEBOOK, axes.EMBED),
    )
    self._counts = self._statistic(
      'counts',
      lambda: jnp.zeros(shape[:2], dtype),
      (axes.LEVELS, axes.CODEBOOK),
    )
    self._initialised = self._statistic('initialised', lambda: jnp.bool(0), ())
    self._project_in = self._project_out = None
    if config.factorized_dim:
      self._project_in = self._projection(
        'project_in', self.embed_dim, code_dim
      )
      self._project_out = self._projection(
        'project_out', code_dim, self.embed_dim
      )

  def encode(self, latents: Latents, *, num_levels: int | None = None) -> Codes:
    """The codes of the first `num_levels` levels, of all if left out."""
    num_levels = self.config.num_levels if num_levels is None else num_levels
    self._require_levels(num_levels)

    def quantize(
      residual: jax.Array, level: _Level
    ) -> tuple[jax.Array, jax.Array]:
      codes = level.search(level.inner(residual))
      chosen = level.outer(level.codebook.embeddings[codes])
      return residual - chosen, codes

    levels = jax.tree.map(lambda leaf: leaf[:num_levels], self._levels())
    _, codes = jax.lax.scan(quantize, self._rows(latents), levels)
    return codes.T.reshape(*latents.shape[:2], num_levels)

  def decode(self, codes: Codes) -> Latents:
    """The sum of the levels that `codes` has, of any number of them."""
    num_levels = codes.shape[-1]
    self._require_levels(num_levels)
    levels = jax.tree.map(lambda leaf: leaf[:num_levels], self._levels())
    chosen = jax.vmap(
      lambda level, codes: level.outer(level.codebook.embeddings[codes]),
      in_axes=(0, -1),
    )(levels, codes)  # [levels, batch, frames, embed]
    return jnp.sum(chosen, axis=0)

  def __call__(
    self, latents: Latents, *, key: PRNGKey, mask: FrameMask | None = None
  ) -> Quantized:
    """Quantizes a training batch.

    Args:
      latents: A global batch.
      key: Draws the levels kept, the k-means start and the restarts.
      mask: True where a frame counts; all do if left out.

    Returns:
      The quantized latents with losses and figures. With `CODEBOOKS` mutable
      the codebooks move on; without, they stay.
    """
    batch, frames, _ = latents.shape
    if mask is None:
      mask = jnp.ones((batch, frames), bool)
    drop_key, *level_keys = jax.random.split(key, 1 + self.config.num_levels)
    kept = draw_kept_levels(self.config, batch=batch, key=drop_key)
    kept = jnp.repeat(kept.T, frames, axis=1)  # [levels, batch * frames]
    rows = self._rows(latents)
    (_, total), (codes, errors, counts, codebooks) = jax.lax.scan(
      functools.partial(self._train_level, mask=jnp.ravel(mask)),
      (rows, jnp.zeros_like(rows)),
      (self._levels(), kept, jnp.stack(level_keys)),
    )
    if self.config.factorized_dim is None:
      total = _straight_through(total, rows)
    if self._trains:
      self._embeddings.value = codebooks.embeddings
      self._counts.value = codebooks.counts
      self._initialised.value |= jnp.any(mask)
    return Quantized(
      latents=total.reshape(latents.shape).astype(latents.dtype),
      codes=codes.T.reshape(batch, frames, -1),
      commitment=metrics.WeightedMean.of(errors, kept & mask.reshape(1, -1)),
      perplexity=vector.perplexity(counts),
      usage=vector.usage(counts),
    )

  def _train_level(
    self,
    carry: tuple[jax.Array, jax.Array],
    level_inputs: tuple[_Level, jax.Array, PRNGKey],
    *,
    mask: jax.Array,
  ) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
    """One level of a batch: passes the residual on and adds to the sum."""
    residual, total = carry
    level, kept, key = level_inputs
    start_key, restart_key = jax.random.split(key)
    inner = level.inner(residual)
    fixed = jax.lax.stop_gradient(inner)
    if self._trains:
      level = level.replace(
        codebook=jax.lax.cond(
          self._initialised.value,
          lambda: level.codebook,
          lambda: vector.start(
            fixed,
            codebook_size=self.config.codebook_size,
            num_iterations=self.config.kmeans_iterations,
            key=start_key,
            mask=mask,
          ),
        )
      )
    codes = level.search(fixed)
    chosen = jax.lax.stop_gradient(level.codebook.embeddings[codes])
    errors = jnp.mean((inner - chosen) ** 2, axis=-1)
    if self.config.factorized_dim is not None:
      # At each level, so that its projections learn.
      chosen = level.outer(_straight_through(chosen, inner))
    codebook, counts = vector.follow(
      level.codebook,
      fixed,
      codes,
      decay=self.config.decay,
      dead_code_threshold=self.config.dead_code_threshold,
      key=restart_key,
      mask=mask,
    )
    total = total + jnp.where(kept[:, None], chosen, 0)
    return (residual - chosen, total), (codes, errors, counts, codebook)

  @property
  def _trains(self) -> bool:
    return self.is_mutable_collection(CODEBOOKS) and not self.is_initializing()

  def _statistic(
    self,
    name: str,
    make: Callable[[], jax.Array],
    names: tuple[str, ...],
  ) -> nn.Variable:
    """A variable of `CODEBOOKS` with its logical axes."""
    if names:
      make = nn.with_logical_partitioning(make, names)
    return self.variable(CODEBOOKS, name, make)

  def _projection(self, name: str, dim_in: int, dim_out: int) -> jax.Array:
    init = nn.initializers.variance_scaling(1, 'fan_in', 'normal', batch_axis=0)
    return parameters.param(
      self,
      name,
      init,
      (self.config.num_levels, dim_in, dim_out),
      self.param_dtype,
      axes=(axes.LEVELS, None, None),
    ).astype(self._embeddings.value.dtype)

  def _levels(self) -> _Level:
    """All levels, stacked."""
    codebook = vector.Codebook(self._embeddings.value, self._counts.value)
    return _Level(codebook, self._project_in, self._project_out)

  def _rows(self, latents: Latents) -> Float[Array, 'rows embed']:
    """One row a frame, in the codebooks' type whatever computed the latents."""
    latents = jnp.asarray(latents, self._embeddings.value.dtype)
    return latents.reshape(-1, self.embed_dim)

  def _require_levels(self, num_levels: int) -> None:
    if not 1 <= num_levels <= self.config.num_levels:
      raise ValueError(
        f'The quantizer has {self.config.num_levels} levels, not {num_levels};'
        f' ask for 1 to {self.config.num_levels}.'
      )


def draw_kept_levels(
  config: ResidualQuantizerConfig, *, batch: int, key: PRNGKey
) -> Bool[Array, 'batch levels']:
  """Quantizer dropout: which levels each example keeps, always the first n.

  n is uniform over 1 to `num_levels` for a share `dropout_rate` of the
  examples, and `num_levels` for the others.
  """
  number_key, choice_key = jax.random.split(key)
  num_kept = jax.random.randint(
    number_key, (batch, 1), 1, config.num_levels + 1
  )
  drops = jax.random.uniform(choice_key, (batch, 1)) < config.dropout_rate
  num_kept = jnp.where(drops, num_kept, config.num_levels)
  return jnp.arange(config.num_levels).reshape(1, -1) < num_kept


def _straight_through(value: jax.Array, inputs: jax.Array) -> jax.Array:
  """`value`, with the gradient of `inputs`."""
  return inputs + jax.lax.stop_gradient(value - inputs)


def _unit(vectors: jax.Array) -> jax.Array:
  """Rows of length one; a row of zeros stays zeros."""
  norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / jnp.where(norms == 0, 1, norms)
