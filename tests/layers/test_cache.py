# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np

from musiclm_jax.layers import cache as caches_lib
from musiclm_jax.layers.cache import LayerCache

KEY = jnp.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)  # batch length heads kv


def test_growing_keeps_what_is_there():
  cache = LayerCache.of(KEY, -KEY)
  assert cache.capacity == 3
  (grown,) = caches_lib.grow((cache,), capacity=11)
  assert grown.capacity == 11
  np.testing.assert_array_equal(grown.key[:, :, :3], KEY.swapaxes(1, 2))
  np.testing.assert_array_equal(grown.value[:, :, :3], -KEY.swapaxes(1, 2))


def test_one_position_is_written_and_no_other():
  cache = LayerCache.of(KEY, -KEY)
  new = jnp.full((2, 1, 5, 7), 1e3)
  written = cache.write(new, -new, position=jnp.asarray(1))
  np.testing.assert_array_equal(written.key[:, :, 1], 1e3)
  np.testing.assert_array_equal(written.value[:, :, 1], -1e3)
  for position in (0, 2):
    np.testing.assert_array_equal(written.key[:, :, position], KEY[:, position])
