# SPDX-License-Identifier: Apache-2.0
"""Losses that pull a pair together and everything else apart.

With logits s_ij = f_i · g_j / τ of audio i and text j:

  decoupled  L_i = log Σ_{j≠i} [exp s_ij + exp s_ji] - s_ii
             MuLan (Huang et al., 2022), section 3.2: the positive is not in the
             denominator, which both directions share. It may fall below 0.
  infonce    L_i = [log Σ_j exp s_ij + log Σ_j exp s_ji] / 2 - s_ii
             CLIP (Radford et al., 2021), figure 3.
  sigmoid    L_i = Σ_j [softplus(z_ij s_ij) + softplus(z_ij s_ji)] / 2, where z
             is -1 for the pair and 1 for all others
             SigLIP (Zhai et al., 2023), equation 1; logits have a bias.

The logits are never there all at once: some rows at a time, in both passes. A
plain scan would keep them for its backward pass, so ours is written out. Each
pass takes the rows of audio, then those of text, against the whole other side:
every sum is within a row, so that a mesh which splits the rows exchanges
embeddings and nothing else.

Shapes: embeddings [batch, embed], of length one; losses [batch]; block = rows
that are taken at a time.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float

from musiclm_jax import metrics
from musiclm_jax.array_types import Array
from musiclm_jax.mulan import parts

FORMS = ('decoupled', 'infonce', 'sigmoid')

Embeddings = Float[Array, 'batch embed']
Rows = Float[Array, ' batch']
RowMask = Bool[Array, ' batch']


def pair_losses(
  audio: Embeddings,
  text: Embeddings,
  *,
  scale: Float[Array, ''] | float,
  valid: RowMask,
  bias: Float[Array, ''] | float = 0.0,
  form: str = 'decoupled',
  block_rows: int | None = None,
) -> Rows:
  """The loss of each pair among all pairs of the global batch.

  Args:
    audio: Row i is the audio of pair i.
    text: Row i is the text of pair i.
    scale: 1 / τ.
    valid: False for rows that are no pair: they repel nobody, and their own
      loss means nothing.
    bias: Added to the logits.
    form: One of `FORMS`.
    block_rows: Rows of logits at a time, a divisor of the batch; all if None.
  """
  if form not in FORMS:
    raise ValueError(f'form is {form!r}; choose one of {FORMS}.')
  dtype = metrics.accumulation_dtype(audio.dtype)
  values = (jnp.asarray(value, dtype) for value in (audio, text, scale, bias))
  return _losses(*values, jnp.asarray(valid), form, block_rows)


def ranks(
  queries: Embeddings,
  candidates: Embeddings,
  *,
  valid: RowMask,
  block_rows: int | None = None,
) -> Rows:
  """How many candidates are nearer to a query than its own: 0 is the best."""
  valid = jnp.asarray(valid)
  columns = _whole(_Side.of(candidates, valid))

  def rank(rows: _Side) -> Rows:
    block = _Block.of(rows, columns, scale=1.0, bias=0.0)
    own = jnp.sum(jnp.where(block.is_pair, block.logits, 0), 1, keepdims=True)
    nearer = block.is_valid & (block.logits > own)
    return jnp.sum(nearer, axis=1).astype(own.dtype)

  return parts.map_parts(rank, _Side.of(queries, valid), part_rows=block_rows)


class _Side(NamedTuple):
  """Audio or text, some rows or all.

  Attributes:
    embeddings: [batch, embed].
    valid: False over padding.
    numbers: Which pair a row is of.
    normalizers: Logarithms of what exponentials are divided by, or None.
    weights: Slope of the result towards the loss of each row, or None.
  """

  embeddings: Any
  valid: Any
  numbers: Any
  normalizers: Any = None
  weights: Any = None

  @classmethod
  def of(cls, embeddings: jax.Array, valid: jax.Array, **others: Any) -> _Side:
    return cls(embeddings, valid, jnp.arange(len(valid)), **others)


class _Block(NamedTuple):
  """Some rows of logits, against all columns: [block, batch] each.

  Attributes:
    logits: Scaled, with their bias.
    is_pair: Where row and column are one pair.
    is_valid: Where neither is padding.
  """

  logits: Any
  is_pair: Any
  is_valid: Any

  @classmethod
  def of(cls, rows: _Side, columns: _Side, *, scale: Any, bias: Any) -> _Block:
    # Highest: on TPU and recent GPUs a float32 product is rounded by default,
    # and 1 / τ makes errors large.
    products = jnp.matmul(
      rows.embeddings,
      columns.embeddings.T,
      precision=jax.lax.Precision.HIGHEST,
    )
    return cls(
      scale * products + bias,
      rows.numbers[:, None] == columns.numbers[None],
      rows.valid[:, None] & columns.valid[None],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _losses(
  audio: jax.Array,
  text: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  valid: jax.Array,
  form: str,
  block_rows: int | None,
) -> jax.Array:
  return _forward(audio, text, scale, bias, valid, form, block_rows)[0]


def _forward(
  audio: jax.Array,
  text: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  valid: jax.Array,
  form: str,
  block_rows: int | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  sides = _Side.of(audio, valid), _Side.of(text, valid)

  def sums(mine: _Side, other: _Side) -> Rows:
    other = _whole(other)
    return parts.map_parts(
      lambda rows: _row_sums(
        _Block.of(rows, other, scale=scale, bias=bias), form
      ),
      mine,
      part_rows=block_rows,
    )

  of_audio, of_text = sums(*sides), sums(*sides[::-1])
  if form == 'sigmoid':
    losses = (of_audio + of_text) / 2
  else:
    pairs = scale * jnp.sum(audio * text, axis=1) + bias
    normalizers = _normalizers(of_audio, of_text, form)
    losses = sum(normalizers) / 2 - pairs
  return losses, (audio, text, scale, bias, valid, of_audio, of_text)


def _backward(
  form: str,
  block_rows: int | None,
  residuals: tuple[jax.Array, ...],
  cotangent: jax.Array,
) -> tuple[jax.Array | None, ...]:
  audio, text, scale, bias, valid, of_audio, of_text = residuals
  weights = jnp.where(valid, cotangent, 0)
  normalizers = _normalizers(of_audio, of_text, form)
  sides = tuple(
    _Side.of(embeddings, valid, normalizers=of_side, weights=weights)
    for embeddings, of_side in zip((audio, text), normalizers)
  )

  def gradients(mine: _Side, other: _Side) -> tuple[jax.Array, jax.Array]:
    """Towards the embeddings of one side, and towards a bias of each row."""
    other = _whole(other)

    def of_rows(rows: _Side) -> tuple[jax.Array, jax.Array]:
      block = _Block.of(rows, other, scale=scale, bias=bias)
      slopes = _slopes(block, rows, other, form)
      towards = jnp.matmul(
        slopes, other.embeddings, precision=jax.lax.Precision.HIGHEST
      )
      return scale * towards, jnp.sum(slopes, axis=1)

    return parts.map_parts(of_rows, mine, part_rows=block_rows)

  to_audio, to_bias = gradients(*sides)
  to_text, _ = gradients(*sides[::-1])
  # Σ slope · (f · g), and the products with the slopes are there already.
  to_scale = jnp.sum(audio * to_audio) / scale
  return to_audio, to_text, to_scale, jnp.sum(to_bias), None


_losses.defvjp(_forward, _backward)


def _row_sums(block: _Block, form: str) -> Rows:
  """What a row adds to the loss, or the logarithm of its sum."""
  if form == 'sigmoid':
    terms = jax.nn.softplus(_sign(block) * block.logits)
    return jnp.sum(jnp.where(block.is_valid, terms, 0), axis=1)
  # Not -inf: where nothing is left to sum, differences stay finite.
  lowest = jnp.finfo(block.logits.dtype).min
  logits = jnp.where(_is_summed(block, form), block.logits, lowest)
  return jax.nn.logsumexp(logits, axis=1)


def _normalizers(of_audio: Rows, of_text: Rows, form: str) -> tuple[Rows, Rows]:
  """Of both sides; one for both, where they share a denominator."""
  if form != 'decoupled':
    return of_audio, of_text
  shared = jnp.logaddexp(of_audio, of_text)
  return shared, shared


def _slopes(
  block: _Block, rows: _Side, columns: _Side, form: str
) -> Float[Array, 'block batch']:
  """The slope of Σ weight × loss towards each logit."""
  mine, others = rows.weights[:, None], columns.weights[None]
  if form == 'sigmoid':
    sign = _sign(block)
    slopes = sign * jax.nn.sigmoid(sign * block.logits) * (mine + others) / 2
    return jnp.where(block.is_valid, slopes, 0)
  slopes = mine * jnp.exp(block.logits - rows.normalizers[:, None])
  slopes += others * jnp.exp(block.logits - columns.normalizers[None])
  if form == 'infonce':
    slopes /= 2
  slopes = jnp.where(_is_summed(block, form), slopes, 0)
  return slopes - jnp.where(block.is_pair, mine, 0)


def _is_summed(block: _Block, form: str) -> jax.Array:
  if form == 'decoupled':
    return block.is_valid & ~block.is_pair
  return block.is_valid


def _sign(block: _Block) -> jax.Array:
  return jnp.where(block.is_pair, -1, 1).astype(block.logits.dtype)


def _whole(side: _Side) -> _Side:
  """All columns on every device: small beside what the towers hold."""
  return jax.tree.map(
    lambda leaf: nn.with_logical_constraint(leaf, (None,) * leaf.ndim), side
  )
