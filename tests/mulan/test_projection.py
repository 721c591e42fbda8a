# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.mulan import projection
from tests.mulan import toys

LAYER = projection.Projection(3)


def test_the_image_of_a_linear_map_gets_length_one():
  pooled = jnp.asarray([[1.0, 2, 3, 5], [0, 1, 0, -1]])
  params = toys.fill(LAYER.init, pooled)
  kernel, bias = (params['params']['map'][name] for name in ('kernel', 'bias'))
  mapped = np.asarray(pooled @ kernel.T) + np.asarray(bias)
  wanted = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
  np.testing.assert_allclose(LAYER.apply(params, pooled), wanted, rtol=1e-5)


def test_nothing_has_no_direction_and_a_finite_gradient():
  nothing = jnp.zeros((1, 4))
  params = jax.tree.map(jnp.zeros_like, toys.fill(LAYER.init, nothing))

  def total(params, pooled):
    return jnp.sum(LAYER.apply(params, pooled) * 0)

  assert not np.any(LAYER.apply(params, nothing))
  for slopes in jax.tree.leaves(jax.grad(total, (0, 1))(params, nothing)):
    assert np.isfinite(slopes).all()
