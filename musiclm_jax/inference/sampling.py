# SPDX-License-Identifier: Apache-2.0
"""Logits to codes, each row by its own key.

A sampler is a function of (logits, keys) that treats every row alike and alone,
so a row's codes do not depend on its neighbours. It must be hashable: it is a
constant of the compiled program.

Top-k: Fan et al. (2018), section 5.1. Top-p: Holtzman et al., "The Curious Case
of Neural Text Degeneration" (2020), section 3.1. Guidance: Ho and Salimans,
"Classifier-Free Diffusion Guidance" (2021), equation 6, on logits.

Shapes: logits [batch, codes], keys [batch].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Sampler = Callable[[jax.Array, jax.Array], jax.Array]


def greedy(
  logits: Float[Array, 'batch codes'], keys: Key[Array, ' batch']
) -> Int[Array, ' batch']:
  """The likeliest code, the first of equals; draws nothing."""
  del keys
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categorical:
  """Draws a code by its probability.

  Attributes:
    temperature: Divides the logits; below 1 likely codes become likelier, and 0
      takes the likeliest, as `greedy`.
    top_k: How many of the likeliest codes may be drawn; None for all. Codes
      that tie with the last of them may be drawn too.
    top_p: The fewest of the likeliest codes whose probability reaches this may
      be drawn; None for all.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float | None = None

  def __post_init__(self):
    if not self.temperature >= 0:
      raise ValueError(
        f'temperature is {self.temperature}; above 0 to draw, or 0 for the'
        ' likeliest code.'
      )
    if self.top_k is not None and self.top_k < 1:
      raise ValueError(f'top_k is {self.top_k}; at least 1, or None for all.')
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise ValueError(f'top_p is {self.top_p}; within (0, 1], or None.')

  def __call__(
    self, logits: Float[Array, 'batch codes'], keys: Key[Array, ' batch']
  ) -> Int[Array, ' batch']:
    if self.temperature == 0:
      return greedy(logits, keys)
    logits = logits / self.temperature
    if self.top_k is not None:
      logits = keep_top_k(logits, k=self.top_k)
    if self.top_p is not None:
      logits = keep_top_p(logits, p=self.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def keep_top_k(
  logits: Float[Array, 'batch codes'], *, k: int
) -> Float[Array, 'batch codes']:
  """The k largest of each row, the others -inf."""
  k = min(k, logits.shape[-1])
  return _keep_from(logits, jax.lax.top_k(logits, k)[0][:, -1:])


def keep_top_p(
  logits: Float[Array, 'batch codes'], *, p: float
) -> Float[Array, 'batch codes']:
  """The fewest of each row whose probability is at least p, others -inf."""
  ordered = jnp.sort(logits, axis=-1, descending=True)
  probability = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probability, axis=-1) - probability
  # The first always stays: nothing comes before it.
  kept = jnp.where(before < p, ordered, jnp.inf)
  return _keep_from(logits, jnp.min(kept, axis=-1, keepdims=True))


def guided(
  conditional: Float[Array, 'batch codes'],
  unconditional: Float[Array, 'batch codes'],
  *,
  scale: float,
) -> Float[Array, 'batch codes']:
  """Away from the unconditional logits; a scale of 1 is no guidance."""
  return unconditional + scale * (conditional - unconditional)


def _keep_from(logits: jax.Array, least: jax.Array) -> jax.Array:
  """-inf below `least`, [batch, 1]."""
  return jnp.where(
    logits >= jnp.broadcast_to(least, logits.shape), logits, -jnp.inf
  )
