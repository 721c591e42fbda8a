# SPDX-License-Identifier: Apache-2.0
"""The TPU's kernel computes what `einsum` does, and compiles for a TPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from musiclm_jax.layers import attention, splash

# More than one block, and not a whole number of them.
LENGTH, HEADS, KV = 259, 2, 8
PROJECTED = jax.random.normal(jax.random.key(0), (3, 4, LENGTH, HEADS, KV))
VALID = np.ones((4, LENGTH), bool)
VALID[1, 200:] = False
VALID[2, 3:11] = False
RULES = (('batch', ('data', 'fsdp')), ('heads', 'tensor'))
ATTEND = functools.partial(splash.attend, interpret=True)


@pytest.fixture
def mesh():
  return jax.make_mesh(
    (2, 2, 2), ('data', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3
  )


def reference(query, key, value, valid_mask):
  view = attention.View(mask=attention.causal_mask(jnp.asarray(valid_mask)))
  return attention.attend(query, key, value, view=view)


def seen(outputs):
  """Where the query is padding nothing is promised."""
  return jnp.where(VALID[..., None, None], outputs, 0.0)


@jax.jit
def kernel_and_reference(projected):
  def of(attend):
    def loss(projected):
      outputs = seen(attend(*projected))
      return jnp.sum(jnp.sin(outputs)), outputs

    (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(projected)
    return outputs, gradient

  return (
    of(lambda *qkv: ATTEND(*qkv, valid_mask=jnp.asarray(VALID))),
    of(lambda *qkv: reference(*qkv, VALID)),
  )


def test_outputs_and_gradients_are_those_of_einsum():
  (outputs, gradient), (wanted, wanted_gradient) = kernel_and_reference(
    PROJECTED
  )
  np.testing.assert_allclose(outputs, wanted, atol=1e-5)
  np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-5)
  assert float(jnp.abs(wanted_gradient).max()) > 1e-2  # The probe itself works.


@pytest.mark.slow
def test_a_mesh_splits_rows_and_heads_and_changes_nothing(mesh):
  projected, valid = PROJECTED, jnp.asarray(VALID)
  with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
    run = jax.jit(lambda *qkv: ATTEND(*qkv, valid_mask=valid))
    split = NamedSharding(mesh, PartitionSpec(('data', 'fsdp'), None, 'tensor'))
    outputs = run(*(jax.device_put(p, split) for p in projected))
    three = [jnp.concatenate([p, p[:, :, :1]], axis=2) for p in projected]
    with pytest.raises(ValueError, match='3 heads are split over 2 devices'):
      run(*three)
  np.testing.assert_allclose(
    seen(outputs), seen(reference(*projected, valid)), atol=1e-5
  )


@pytest.mark.parametrize(
  'heads, num_heads, share',
  [('tensor', 6, 3), (('fsdp', 'tensor'), 12, 3), (None, 5, 5)],
)
def test_each_device_attends_its_share_of_rows_and_heads(
  heads, num_heads, share, mesh, monkeypatch
):
  shapes = []

  def local(query, key, value, valid_mask, *, interpret):
    shapes.append((query.shape, valid_mask.shape))
    return query

  monkeypatch.setattr(splash, '_local', local)
  projected = [jax.ShapeDtypeStruct((4, 7, num_heads, KV), jnp.float32)] * 3
  valid_mask = jnp.ones((4, 7), bool)
  rules = (('batch', 'data'), ('heads', heads))
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    jax.eval_shape(lambda *qkv: ATTEND(*qkv, valid_mask=valid_mask), *projected)
  assert shapes == [((2, share, 256, KV), (2, 256))]


def test_heads_that_several_axes_cannot_share_are_refused(mesh):
  rules = (('batch', 'data'), ('heads', ('fsdp', 'tensor')))
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    with pytest.raises(
      ValueError, match=r'2 heads are split over 4 devices \(mesh axes fsdp, te'
    ):
      ATTEND(*PROJECTED, valid_mask=jnp.asarray(VALID))


def test_a_mesh_without_rules_is_refused(mesh):
  with jax.set_mesh(mesh):
    with pytest.raises(ValueError, match='8 devices is entered without a rule'):
      ATTEND(*PROJECTED, valid_mask=jnp.asarray(VALID))


@pytest.mark.filterwarnings('ignore:.*:DeprecationWarning')
def test_several_tpus_under_a_mesh_of_the_old_way_are_refused_by_jax(mesh):
  split = NamedSharding(mesh, PartitionSpec('data'))
  shape = jax.ShapeDtypeStruct((4, 256, 2, 64), jnp.bfloat16, sharding=split)
  valid_mask = jnp.ones((4, 256), bool)
  run = jax.jit(lambda *qkv: splash.attend(*qkv, valid_mask=valid_mask))
  with mesh, nn.logical_axis_rules(RULES):
    with pytest.raises(NotImplementedError, match='automatically partitioned'):
      jax.export.export(run, platforms=['tpu'])(shape, shape, shape)


def test_it_lowers_for_a_tpu_forward_and_backward():
  shapes = [jax.ShapeDtypeStruct((1, 768, 2, 64), jnp.bfloat16)] * 3

  def loss(*projected):
    outputs = splash.attend(*projected, valid_mask=jnp.ones((1, 768), bool))
    return jnp.sum(outputs.astype(jnp.float32))

  exported = jax.export.export(
    jax.jit(jax.grad(loss, argnums=(0, 1, 2))), platforms=['tpu']
  )(*shapes)
  # Forward, and backward towards queries and towards keys and values.
  assert exported.mlir_module().count('tpu_custom_call') >= 3
