# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from jax._src.cudnn import fused_attention_stablehlo

from musiclm_jax.layers import attention
from musiclm_jax.layers.attention import View
from musiclm_jax.layers.cache import LayerCache

QUERY, KEY, VALUE = jax.random.normal(jax.random.key(0), (3, 2, 5, 3, 7))
BIAS = jax.random.normal(jax.random.key(1), (1, 3, 5, 5))
VALID = jnp.asarray([[True] * 5, [True, False, True, True, False]])
VIEW = View(mask=attention.causal_mask(VALID), bias=BIAS)


def test_causal_mask_hides_what_comes_after_and_what_is_padding():
  np.testing.assert_array_equal(
    attention.causal_mask(VALID[1:])[0, 0],
    [
      [1, 0, 0, 0, 0],
      [1, 0, 0, 0, 0],
      [1, 0, 1, 0, 0],
      [1, 0, 1, 1, 0],
      [1, 0, 1, 1, 0],
    ],
  )


def test_attention_is_the_mean_of_values_weighted_by_the_softmax():
  outputs = attention.attend(QUERY, KEY, VALUE, view=VIEW)
  row, query, head = 1, 3, 2
  seen = [0, 2, 3]
  scores = np.asarray(KEY[row, seen, head] @ QUERY[row, query, head]) / 7**0.5
  weights = np.exp(scores + np.asarray(BIAS[0, head, query, jnp.asarray(seen)]))
  wanted = (weights / weights.sum()) @ np.asarray(VALUE[row, seen, head])
  np.testing.assert_allclose(outputs[row, query, head], wanted, rtol=1e-5)


def test_xla_and_einsum_agree():
  ours, theirs = (
    attention.attend(QUERY, KEY, VALUE, view=VIEW, implementation=name)
    for name in ('einsum', 'xla')
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.accelerator
def test_cudnn_and_einsum_agree_in_half_precision():
  half = [
    jnp.pad(a, ((0, 0), (0, 59), (0, 0), (0, 57))).astype(jnp.bfloat16)
    for a in (QUERY, KEY, VALUE)
  ]
  view = View(mask=attention.causal_mask(jnp.ones((2, 64), bool)))
  ours, theirs = (
    attention.attend(*half, view=view, implementation=name)
    for name in ('einsum', 'cudnn')
  )
  np.testing.assert_allclose(
    ours.astype(jnp.float32), theirs.astype(jnp.float32), atol=2e-2
  )


def test_attention_to_a_cache_equals_that_within_the_sequence():
  # Two rows of rubbish stand where the cache has not been filled.
  cache = LayerCache(
    *(
      jnp.pad(a.swapaxes(1, 2), ((0, 0), (0, 0), (0, 2), (0, 0)))
      for a in (KEY, VALUE)
    )
  )
  cache = jax.tree.map(lambda a: a.at[:, :, 5:].set(1e3), cache)
  view = View(
    mask=jnp.pad(VIEW.mask, ((0, 0), (0, 0), (0, 0), (0, 2)))[:, :, 4:],
    bias=jnp.pad(BIAS, ((0, 0), (0, 0), (0, 0), (0, 2)))[:, :, 4:],
  )
  np.testing.assert_allclose(
    attention.attend_cached(QUERY[:, 4:], cache, view=view),
    attention.attend(QUERY, KEY, VALUE, view=VIEW)[:, 4:],
    atol=1e-6,
  )


def test_query_that_sees_nothing_gets_a_number():
  view = View(mask=jnp.zeros((1, 1, 5, 5), bool))
  assert jnp.all(jnp.isfinite(attention.attend(QUERY, KEY, VALUE, view=view)))


def test_self_attention_projects_attends_and_hands_back_its_cache():
  layer = attention.SelfAttention(num_heads=3, head_dim=7)
  inputs = jax.random.normal(jax.random.key(2), (2, 5, 11))
  variables = meta.unbox(layer.init(jax.random.key(3), inputs, view=VIEW))
  kernels = variables['params']
  assert kernels['query_key_value']['kernel'].shape == (3, 3, 7, 11)
  assert kernels['out']['kernel'].shape == (11, 3, 7)
  outputs, cache = layer.apply(variables, inputs, view=VIEW)
  query, key, value = (
    jnp.einsum('bsd,hkd->bshk', inputs, kernel)
    for kernel in kernels['query_key_value']['kernel']
  )
  attended = attention.attend(query, key, value, view=VIEW)
  np.testing.assert_allclose(
    outputs,
    jnp.einsum('bshk,dhk->bsd', attended, kernels['out']['kernel']),
    atol=1e-5,
  )
  np.testing.assert_allclose(cache.key, key.swapaxes(1, 2), atol=1e-5)


def test_cudnn_lowers_to_its_kernel_with_the_bias_and_its_gradient(monkeypatch):
  """It cannot run here: only that the compiled program would call it."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: 91000
  )
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  half = jax.ShapeDtypeStruct((2, 64, 2, 64), jnp.bfloat16)
  bias = jax.ShapeDtypeStruct((1, 2, 64, 64), jnp.float32)

  def loss(query, key, value, bias):
    mask = attention.causal_mask(jnp.ones((2, 64), bool))
    outputs = attention.attend(
      query,
      key,
      value,
      view=View(mask=mask, bias=bias),
      implementation='cudnn',
    )
    return jnp.sum(outputs.astype(jnp.float32))

  lowered = (
    jax.jit(jax.grad(loss, argnums=(0, 3)))
    .trace(half, half, half, bias)
    .lower(lowering_platforms=('cuda',))
    .as_text()
  )
  assert '__cudnn$fmhaScaleBiasSoftmax' in lowered
  assert '__cudnn$fmhaScaleBiasSoftmaxBackward' in lowered


@pytest.mark.parametrize(
  'name, platform', [('cudnn', 'gpu'), ('splash', 'tpu')]
)
def test_a_kernel_of_another_platform_is_refused(name, platform):
  with pytest.raises(
    ValueError, match=f"runs on the platform '{platform}' alone.* 'cpu'"
  ):
    attention.attend(QUERY, KEY, VALUE, view=VIEW, implementation=name)


def test_splash_is_refused_a_bias_and_a_view_that_is_not_causal(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  for view in (VIEW, View(mask=VIEW.mask)):
    with pytest.raises(ValueError, match='attends causally and adds no bias'):
      attention.attend(QUERY, KEY, VALUE, view=view, implementation='splash')
