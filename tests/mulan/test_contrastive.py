# SPDX-License-Identifier: Apache-2.0
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.mulan import contrastive

ROWS, WIDTH = 12, 7
VALID = np.arange(ROWS) != 5
WEIGHTS = jnp.asarray(VALID * (1.0 + np.arange(ROWS)), jnp.float32)


def unit(seed, rows=ROWS):
  vectors = jax.random.normal(jax.random.key(seed), (rows, WIDTH))
  return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


def dense(audio, text, scale, bias, *, form, valid=VALID):
  """The equations, with all logits there at once."""
  logits = scale * audio @ text.T + bias
  pair = jnp.eye(len(audio), dtype=bool)
  both = jnp.asarray(valid[:, None] & valid[None])
  if form == 'sigmoid':
    terms = jax.nn.softplus(jnp.where(pair, -logits, logits))
    terms = jnp.where(both, terms, 0)
    return (terms.sum(0) + terms.sum(1)) / 2
  summed = jnp.where(
    both & ~pair if form == 'decoupled' else both, jnp.exp(logits), 0
  )
  down, across = summed.sum(0), summed.sum(1)
  if form == 'decoupled':
    return jnp.log(down + across) - jnp.diag(logits)
  return (jnp.log(down) + jnp.log(across)) / 2 - jnp.diag(logits)


def weighed(losses):
  return jnp.sum(jnp.where(VALID, losses, 0) * WEIGHTS)


@functools.cache
def gradients(form, block_rows):
  """Value and gradients towards all four, of the weighed sum."""

  def total(audio, text, scale, bias):
    return weighed(
      contrastive.pair_losses(
        audio,
        text,
        scale=scale,
        bias=bias,
        valid=VALID,
        form=form,
        block_rows=block_rows,
      )
    )

  return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(
    unit(0), unit(1), 7.0, -0.3
  )


def test_decoupled_loss_by_hand():
  # Two pairs: s = [[2, 1], [0, 3]], and the only others are 1 and 0.
  audio = jnp.eye(2)
  text = jnp.asarray([[2.0, 0.0], [1.0, 3.0]])
  got = contrastive.pair_losses(
    audio, text, scale=1.0, valid=np.ones(2, bool), form='decoupled'
  )
  others = math.log(math.exp(1) + math.exp(0))
  np.testing.assert_allclose(got, [others - 2, others - 3], rtol=1e-5)
  assert got[1] < 0  # As the paper's equation has it.


def test_infonce_and_sigmoid_by_hand():
  audio = jnp.eye(2)
  text = jnp.asarray([[2.0, 0.0], [1.0, 3.0]])
  both = functools.partial(
    contrastive.pair_losses, audio, text, scale=1.0, valid=np.ones(2, bool)
  )
  row = [math.log(math.exp(2) + math.exp(1)), math.log(1 + math.exp(3))]
  column = [math.log(math.exp(2) + 1), math.log(math.exp(1) + math.exp(3))]
  wanted = [(row[0] + column[0]) / 2 - 2, (row[1] + column[1]) / 2 - 3]
  np.testing.assert_allclose(both(form='infonce'), wanted, rtol=1e-5)

  def softplus(value):
    return math.log1p(math.exp(value))

  wrong = (softplus(1 - 1.5) + softplus(0 - 1.5)) / 2
  wanted = [softplus(-(2 - 1.5)) + wrong, softplus(-(3 - 1.5)) + wrong]
  got = both(form='sigmoid', bias=-1.5)
  np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize('form', contrastive.FORMS)
@pytest.mark.parametrize('block_rows', [None, 4])
def test_losses_and_gradients_equal_the_dense_form(form, block_rows):
  def total(*arguments):
    return weighed(dense(*arguments, form=form))

  wanted = jax.value_and_grad(total, argnums=(0, 1, 2, 3))(
    unit(0), unit(1), 7.0, -0.3
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(b).max())
    ),
    gradients(form, block_rows),
    wanted,
  )
  assert all(np.abs(g).max() > 0.1 for g in wanted[1][:3])


@pytest.mark.parametrize('form', contrastive.FORMS)
def test_an_invalid_row_is_as_if_it_were_not_there(form):
  audio, text = unit(0), unit(1)
  loss = functools.partial(
    contrastive.pair_losses, scale=7.0, bias=-0.3, form=form
  )
  got = loss(audio, text, valid=VALID)[VALID]
  left = np.ones(VALID.sum(), bool)
  np.testing.assert_allclose(
    got, loss(audio[VALID], text[VALID], valid=left), rtol=1e-5
  )
  assert not np.allclose(got, loss(audio, text, valid=VALID | True)[VALID])
  to_audio, to_text, _, _ = gradients(form, 4)[1]
  assert not np.any(to_audio[5]) and not np.any(to_text[5])


@pytest.mark.parametrize('form', contrastive.FORMS)
def test_order_of_pairs_and_a_swap_of_sides_change_nothing(form):
  audio, text, order = unit(0), unit(1), np.random.default_rng(3).permutation
  loss = functools.partial(contrastive.pair_losses, scale=7.0, form=form)
  wanted = loss(audio, text, valid=VALID)
  places = order(ROWS)
  got = loss(audio[places], text[places], valid=VALID[places])
  np.testing.assert_allclose(got, wanted[places], rtol=1e-5)
  swapped = loss(text, audio, valid=VALID)
  np.testing.assert_allclose(swapped, wanted, rtol=1e-5)


def test_a_pair_alone_has_a_finite_loss_and_gradient():
  alone = np.arange(ROWS) == 2

  def first(audio):
    losses = contrastive.pair_losses(audio, unit(1), scale=7.0, valid=alone)
    return losses[2] * 0

  assert np.isfinite(jax.grad(first)(unit(0))).all()


def test_ranks_count_who_is_nearer():
  audio, text = unit(0), unit(1)
  products = np.asarray(audio @ text.T)
  own = np.diag(products)[:, None]
  wanted = ((products > own) & VALID[None]).sum(1)
  for block_rows in (None, 3):
    got = contrastive.ranks(audio, text, valid=VALID, block_rows=block_rows)
    np.testing.assert_array_equal(got[VALID], wanted[VALID])
  assert len(set(wanted)) > 3


def test_what_does_not_fit_is_an_error():
  with pytest.raises(ValueError, match="'decoupled', 'infonce'"):
    contrastive.pair_losses(
      unit(0), unit(1), scale=1.0, valid=VALID, form='triplet'
    )
  with pytest.raises(ValueError, match='12 rows.*parts of 5'):
    contrastive.pair_losses(
      unit(0), unit(1), scale=1.0, valid=VALID, block_rows=5
    )
