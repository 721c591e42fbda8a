# SPDX-License-Identifier: Apache-2.0
"""Stacked blocks come apart in order, and what is apart stays."""

import jax.numpy as jnp

from musiclm_jax.layers import stack


def test_each_block_gets_its_own_row_and_the_rest_is_kept():
  params = {'layers': {'kernel': jnp.arange(6).reshape(3, 2)}, 'norm': 'kept'}
  apart = stack.unstack(
    params, stacked='layers', separate='layer', num_blocks=3
  )
  assert sorted(apart) == ['layer_0', 'layer_1', 'layer_2', 'norm']
  assert apart['norm'] == 'kept'
  for index in range(3):
    assert apart[f'layer_{index}']['kernel'].tolist() == [
      2 * index,
      2 * index + 1,
    ]
  assert (
    stack.unstack(apart, stacked='layers', separate='layer', num_blocks=3)
    == apart
  )
