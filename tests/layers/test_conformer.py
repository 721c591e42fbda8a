# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.layers import conformer
from musiclm_jax.layers.conformer import Conformer, ConformerConfig

FRAMES = 19
BLOCKS = 2
ROTARY = ConformerConfig(
  num_heads=2, embed_dim=12, mlp_dim=11, position='rotary', dropout_rate=0.5
)
RELATIVE = dataclasses.replace(
  ROTARY, position='relative', num_buckets=6, max_distance=7
)
BOTH = pytest.mark.parametrize(
  'config', [RELATIVE, ROTARY], ids=['bias', 'turn']
)
INPUTS = jax.random.normal(jax.random.key(0), (2, FRAMES, 12))
ALL_VALID = jnp.ones((2, FRAMES), bool)


@functools.cache
def variables_of(config):
  init = jax.jit(Conformer(config, BLOCKS).init)
  return meta.unbox(init(jax.random.key(1), INPUTS, frame_mask=ALL_VALID))


@functools.partial(jax.jit, static_argnames=('config', 'num_blocks'))
def apply(config, variables, inputs, mask, num_blocks=None):
  return Conformer(config, BLOCKS).apply(
    variables, inputs, frame_mask=mask, num_blocks=num_blocks
  )


@BOTH
def test_padding_and_batch_mates_do_not_change_a_clip(config):
  variables = variables_of(config)
  whole = apply(config, variables, INPUTS, ALL_VALID)
  # The first clip ends at 13, whatever stands there and beside it.
  other = INPUTS.at[0, 13:].set(70.0).at[1].set(-3.0)
  mask = ALL_VALID.at[0, 13:].set(False).at[1, 5:].set(False)
  padded = apply(config, variables, other, mask)
  alone = apply(config, variables, INPUTS[:1, :13], ALL_VALID[:1, :13])
  np.testing.assert_allclose(padded[:1, :13], alone, atol=2e-5)
  assert not np.allclose(padded[:1, :13], whole[:1, :13], atol=1e-2)


@BOTH
def test_a_frame_sees_both_directions_and_where_things_are(config):
  variables = variables_of(config)
  whole = apply(config, variables, INPUTS, ALL_VALID)[0, 9]
  # Beyond the reach of two convolutions, so by attention.
  for place in (0, FRAMES - 1):
    changed = apply(
      config, variables, INPUTS.at[0, place].multiply(-1), ALL_VALID
    )
    assert not np.allclose(whole, changed[0, 9], atol=1e-3)
  swapped = INPUTS.at[:, [0, 2]].set(INPUTS[:, [2, 0]])
  changed = apply(config, variables, swapped, ALL_VALID)[0, 9]
  assert not np.allclose(whole, changed, atol=1e-4)


@pytest.mark.slow
@BOTH
def test_scanned_and_rematerialized_blocks_are_the_separate_ones(config):
  scanned = dataclasses.replace(config, scan_layers=True, remat=True)
  stacked = variables_of(scanned)['params']
  separate = conformer.unstack_blocks(stacked, num_blocks=BLOCKS)
  wanted_params = variables_of(config)['params']
  assert jax.tree.structure(separate) == jax.tree.structure(wanted_params)
  assert conformer.unstack_blocks(wanted_params, num_blocks=BLOCKS) == (
    wanted_params
  )

  def loss(params, config):
    made = apply(config, {'params': params}, INPUTS, ALL_VALID)
    return jnp.sum(made[:, ::2] * jnp.arange(12.0)[None, None])

  got = jax.grad(loss)(stacked, scanned)
  wanted = jax.grad(loss)(separate, config)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4),
    conformer.unstack_blocks(got, num_blocks=BLOCKS),
    dict(wanted),
  )
  np.testing.assert_allclose(
    apply(scanned, {'params': stacked}, INPUTS, ALL_VALID),
    apply(config, {'params': separate}, INPUTS, ALL_VALID),
    atol=1e-5,
  )


def test_the_first_blocks_are_run_without_the_parameters_of_the_others():
  params = dict(variables_of(ROTARY)['params'])
  del params['block_1']
  first = apply(ROTARY, {'params': params}, INPUTS, ALL_VALID, num_blocks=1)
  short = Conformer(ROTARY, 1).apply(
    {'params': params}, INPUTS, frame_mask=ALL_VALID
  )
  np.testing.assert_allclose(first, short, atol=1e-6)
  none = apply(ROTARY, {'params': params}, INPUTS, ALL_VALID, num_blocks=0)
  np.testing.assert_array_equal(none, INPUTS)


def test_blocks_that_cannot_be_run_are_an_error():
  with pytest.raises(ValueError, match='3 blocks are wanted .* has 2'):
    apply(ROTARY, variables_of(ROTARY), INPUTS, ALL_VALID, num_blocks=3)
  scanned = dataclasses.replace(RELATIVE, scan_layers=True, remat=True)
  with pytest.raises(ValueError, match='unstack_blocks'):
    apply(scanned, variables_of(scanned), INPUTS, ALL_VALID, num_blocks=1)


def test_depthwise_convolution_is_numpys_on_each_channel():
  layer = conformer.DepthwiseConv(kernel_size=5)
  variables = meta.unbox(layer.init(jax.random.key(2), INPUTS))
  got = layer.apply(variables, INPUTS)
  kernel = np.asarray(variables['params']['kernel'], np.float64)
  assert kernel.shape == (5, 12)
  for row, channel in ((0, 0), (1, 11)):
    wanted = np.convolve(
      np.asarray(INPUTS, np.float64)[row, :, channel],
      kernel[::-1, channel],
      mode='same',
    )
    np.testing.assert_allclose(got[row, :, channel], wanted, atol=1e-5)


def test_dropout_is_on_where_a_key_is_given():
  variables = variables_of(ROTARY)

  def dropped(seed):
    return Conformer(ROTARY, BLOCKS).apply(
      variables,
      INPUTS,
      frame_mask=ALL_VALID,
      rngs={'dropout': jax.random.key(seed)},
    )

  np.testing.assert_array_equal(dropped(0), dropped(0))
  assert not np.allclose(dropped(0), dropped(1), atol=1e-2)


def test_half_precision_is_computed_and_single_is_stored():
  config = dataclasses.replace(RELATIVE, dtype='bfloat16')
  variables = variables_of(config)
  half = apply(config, variables, INPUTS, ALL_VALID)
  assert half.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  single = apply(RELATIVE, variables, INPUTS, ALL_VALID)
  np.testing.assert_allclose(half.astype('float32'), single, atol=0.15)


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'position': 'absolute'}, "position is 'absolute'"),
    ({'attention': 'fast'}, "attention is 'fast'"),
    ({'embed_dim': 13}, 'does not divide among 2 heads'),
    ({'embed_dim': 14, 'position': 'rotary'}, 'a multiple of 4'),
    ({'kernel_size': 4}, 'an odd number'),
  ],
)
def test_sizes_that_contradict_themselves_are_an_error(sizes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(RELATIVE, **sizes)
