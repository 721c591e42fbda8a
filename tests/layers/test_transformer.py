# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import axes
from musiclm_jax.layers import cache as caches_lib
from musiclm_jax.layers import transformer
from musiclm_jax.layers.transformer import Transformer, TransformerConfig

LENGTH = 19
RELATIVE = TransformerConfig(
  num_layers=2, num_heads=2, embed_dim=14, mlp_dim=11, num_buckets=6
)
ROTARY = dataclasses.replace(
  RELATIVE, position='rotary', embed_dim=12, head_dim=6
)
INPUTS = jax.random.normal(jax.random.key(0), (3, LENGTH, 14))
VALID = jnp.ones((3, LENGTH), bool).at[1, 2:4].set(False)


def inputs_of(config):
  return INPUTS[..., : config.embed_dim]


def variables_of(config):
  return meta.unbox(
    Transformer(config).init(
      jax.random.key(1), inputs_of(config), valid_mask=VALID
    )
  )


def apply(config, variables, inputs=None, **options):
  inputs = inputs_of(config) if inputs is None else inputs
  options = {'valid_mask': VALID} | options
  return Transformer(config).apply(variables, inputs, **options)


@pytest.mark.parametrize('config', [RELATIVE, ROTARY], ids=['bias', 'rotary'])
def test_no_position_sees_a_later_one(config):
  variables = variables_of(config)
  whole = apply(config, variables).hidden
  cut = apply(config, variables, inputs_of(config).at[:, 11:].set(0.5)).hidden
  np.testing.assert_allclose(whole[:, :11], cut[:, :11], atol=1e-6)
  assert not np.allclose(whole[:, 11:], cut[:, 11:], atol=1e-2)


@pytest.mark.parametrize('config', [RELATIVE, ROTARY], ids=['bias', 'rotary'])
def test_no_position_sees_padding(config):
  variables = variables_of(config)
  whole = apply(config, variables).hidden
  other = inputs_of(config).at[1, 2:4].set(7.0)
  changed = apply(config, variables, other).hidden
  kept = np.r_[0:2, 4:LENGTH]
  np.testing.assert_allclose(whole[1, kept], changed[1, kept], atol=1e-6)


@pytest.mark.parametrize('config', [RELATIVE, ROTARY], ids=['bias', 'rotary'])
def test_steps_with_a_cache_equal_the_whole_sequence(config):
  variables, inputs = variables_of(config), inputs_of(config)
  whole = apply(config, variables).hidden
  caches = apply(
    config,
    variables,
    inputs[:, :5],
    valid_mask=VALID[:, :5],
    keeps_caches=True,
  ).caches
  caches = caches_lib.grow(caches, capacity=LENGTH)
  for position in range(5, LENGTH):
    step = apply(
      config,
      variables,
      inputs[:, position : position + 1],
      caches=caches,
      position=jnp.asarray(position),
    )
    caches = step.caches
    np.testing.assert_allclose(step.hidden[:, 0], whole[:, position], atol=1e-5)


def test_scanned_and_rematerialized_layers_compute_the_same():
  config = dataclasses.replace(RELATIVE, scan_layers=True, remat=True)
  stacked = variables_of(config)
  separate = {
    'params': transformer.unstack_layers(stacked['params'], num_layers=2)
  }

  def loss(config, variables):
    return jnp.sum(jnp.square(apply(config, variables).hidden[:, ::3]))

  wanted, wanted_gradient = jax.value_and_grad(
    lambda variables: loss(RELATIVE, variables)
  )(separate)
  got, gradient = jax.value_and_grad(lambda variables: loss(config, variables))(
    stacked
  )
  np.testing.assert_allclose(got, wanted, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    transformer.unstack_layers(gradient['params'], num_layers=2),
    wanted_gradient['params'],
  )


def test_scanned_layers_carry_their_own_axis_and_cannot_decode():
  config = dataclasses.replace(RELATIVE, scan_layers=True)
  boxed = jax.eval_shape(
    lambda: Transformer(config).init(
      jax.random.key(0), INPUTS, valid_mask=VALID
    )
  )
  kernel = boxed['params']['layers']['feedforward']['narrow']['kernel']
  assert kernel.names == (axes.LAYERS, axes.EMBED, axes.MLP)
  with pytest.raises(ValueError, match='`unstack_layers`'):
    apply(config, variables_of(config), keeps_caches=True)


def test_all_layers_share_one_table_of_biases_and_there_are_no_other_biases():
  shapes = jax.tree_util.tree_leaves_with_path(
    jax.tree.map(jnp.shape, variables_of(RELATIVE)['params']),
    is_leaf=lambda node: isinstance(node, tuple),
  )
  names = [jax.tree_util.keystr(path) for path, _ in shapes]
  assert [name for name in names if 'bias' in name] == [
    "['relative_bias']['table']"
  ]


def test_half_precision_follows_float32():
  variables = variables_of(RELATIVE)
  half = dataclasses.replace(RELATIVE, dtype='bfloat16')
  got = apply(half, variables).hidden
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    got.astype(jnp.float32), apply(RELATIVE, variables).hidden, atol=0.1
  )


def test_sizes_that_do_not_fit_are_errors():
  with pytest.raises(ValueError, match='does not divide among 4 heads'):
    dataclasses.replace(RELATIVE, num_heads=4, head_dim=None)
  with pytest.raises(ValueError, match='head_dim is 7'):
    dataclasses.replace(RELATIVE, position='rotary')
  with pytest.raises(ValueError, match="'sinusoidal'; choose one of"):
    dataclasses.replace(RELATIVE, position='sinusoidal')
  with pytest.raises(ValueError, match="'aligned' .* segments, and this"):
    variables_of(dataclasses.replace(RELATIVE, position='aligned'))


def changed(**changes):
  return dataclasses.replace(RELATIVE, **changes)


def test_a_kernel_that_the_config_cannot_have_is_refused():
  with pytest.raises(ValueError, match="position to 'rotary'"):
    changed(attention='splash')
  with pytest.raises(ValueError, match='wants bfloat16 .* dtype is float32'):
    changed(attention='cudnn')
  half = {'attention': 'cudnn', 'dtype': 'bfloat16'}
  with pytest.raises(ValueError, match='and the width 7'):
    changed(**half, head_dim=7)
  assert changed(**half, head_dim=64).attention == 'cudnn'
  assert changed(attention='splash', position='rotary', head_dim=8)


def test_parameters_are_made_where_their_kernel_is_not():
  """Such as of a program that is compiled for a TPU from here."""
  settings = changed(attention='splash', position='rotary', head_dim=8)
  embedded = jnp.zeros((1, 5, settings.embed_dim))
  valid = jnp.ones((1, 5), bool)
  model = transformer.Transformer(settings)
  shapes = jax.eval_shape(
    lambda key: model.init(key, embedded, valid_mask=valid), jax.random.key(0)
  )
  assert jax.tree.leaves(shapes)
  with pytest.raises(ValueError, match="'tpu' alone, and this is 'cpu'"):
    jax.eval_shape(
      lambda variables: model.apply(variables, embedded, valid_mask=valid),
      shapes,
    )
