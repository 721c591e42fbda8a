# SPDX-License-Identifier: Apache-2.0
"""JAX's own draws, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from musiclm_jax.export.pytorch import threefry

SEEDS = (0, 1, 17, 2**31, 2**32 - 1)
DATA = (0, 5, 2**32 - 1)


def keys():
  return threefry.keys_of(torch.tensor(SEEDS))


def jax_keys():
  return jax.vmap(jax.random.key)(jnp.asarray(SEEDS, jnp.uint32))


def equal(ours, theirs):
  np.testing.assert_array_equal(ours.numpy(), np.asarray(theirs, np.int64))


def test_a_seed_is_the_same_key():
  equal(keys(), jax.random.key_data(jax_keys()))


def test_folding_in_gives_the_same_key():
  for number in DATA:
    wanted = jax.vmap(jax.random.fold_in, in_axes=(0, None))(
      jax_keys(), jnp.uint32(number)
    )
    equal(
      threefry.fold_in(keys(), torch.tensor(number)),
      jax.random.key_data(wanted),
    )


def test_each_key_may_fold_in_its_own_number():
  data = torch.arange(len(SEEDS))
  each = [threefry.fold_in(keys()[n], data[n]) for n in range(len(SEEDS))]
  assert torch.equal(threefry.fold_in(keys(), data), torch.stack(each))
  every = threefry.fold_in(keys()[:, None], data)  # [keys, numbers, 2]
  assert torch.equal(every.diagonal(dim1=0, dim2=1).T, torch.stack(each))


def test_bits_are_the_same():
  assert jax.config.jax_threefry_partitionable  # What is followed here.
  wanted = jax.vmap(lambda key: jax.random.bits(key, (257,)))(jax_keys())
  equal(threefry.bits(keys(), 257), wanted)


def test_uniform_numbers_are_the_same_bit_for_bit():
  tiny = np.finfo(np.float32).tiny
  wanted = jax.vmap(
    lambda key: jax.random.uniform(key, (1009,), minval=tiny, maxval=1.0)
  )(jax_keys())
  found = threefry.uniform(keys(), 1009)
  assert found.min() > 0 and found.max() < 1
  np.testing.assert_array_equal(found.numpy(), wanted)


def test_gumbel_numbers_are_the_same_to_the_rounding_of_a_logarithm():
  wanted = jax.vmap(lambda key: jax.random.gumbel(key, (1009,)))(jax_keys())
  np.testing.assert_allclose(
    threefry.gumbel(keys(), 1009).numpy(), wanted, rtol=3e-6, atol=3e-6
  )


def test_the_same_codes_are_drawn():
  logits = np.random.default_rng(0).normal(size=(5, 31)).astype(np.float32)
  for step in range(40):
    folded = threefry.fold_in(keys(), torch.tensor(step))
    found = threefry.categorical(folded, torch.from_numpy(logits))
    wanted = jax.vmap(
      lambda key, row: jax.random.categorical(
        jax.random.fold_in(key, jnp.uint32(step)),  # noqa: B023
        row,
      )
    )(jax_keys(), logits)
    equal(found, wanted)
