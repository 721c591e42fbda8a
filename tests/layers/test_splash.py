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
def test_a_mesh_splits_rows_and_heads_and_changes_nothing():
  mesh = jax.make_mesh(
    (2, 2, 2), ('data', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3
  )
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
