# SPDX-License-Identifier: Apache-2.0
"""A checksum sees every single change and no mesh."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from musiclm_jax.checkpoints import checksum


def checksum_of(array):
  return checksum.of_leaves({'leaf': array})['leaf']


def test_a_checksum_equals_the_sum_written_out_by_hand():
  array = np.array([[5, 7, 11], [13, 17, 19]], np.uint32)
  wanted = sum(int(x) * (2 * i + 1) for i, x in enumerate(array.ravel()))
  assert checksum_of(jnp.asarray(array)) == wanted % 2**32


@pytest.mark.parametrize(
  'dtype', ['float32', 'bfloat16', 'float16', 'int8', 'int32', 'bool']
)
def test_any_single_changed_element_is_seen(dtype):
  array = np.zeros((3, 5), jnp.dtype(dtype))
  sums = {checksum_of(jnp.asarray(array))}
  for index in np.ndindex(array.shape):
    changed = array.copy()
    changed[index] = 1
    sums.add(checksum_of(jnp.asarray(changed)))
  assert len(sums) == 1 + array.size


def test_wide_types_use_all_their_bits():
  with jax.enable_x64(True):
    array = jnp.arange(7, dtype=jnp.float64)
    next_one = jnp.asarray(np.nextafter(np.asarray(array), 9.0))
    assert checksum_of(array) != checksum_of(next_one)
    imaginary = array + 1j
    assert checksum_of(imaginary) != checksum_of(array.astype(complex))


def test_wide_types_do_not_mind_the_mesh_either():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  with jax.enable_x64(True):
    array = jnp.linspace(0.0, 1.0, 8 * 24).reshape(8, 24)
    assert array.dtype == jnp.float64
    for spec in [('data',), (None, 'data')]:
      placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
      assert checksum_of(placed) == by_hand(np.asarray(array))


def test_minus_zero_and_the_payload_of_a_nan_are_seen():
  assert checksum_of(jnp.float32(0.0)) != checksum_of(jnp.float32(-0.0))
  assert checksum_of(jnp.float32(jnp.nan)) == checksum_of(jnp.float32(jnp.nan))


def test_a_typed_key_has_the_checksum_of_its_data():
  key = jax.random.key(3)
  assert checksum_of(key) == checksum_of(jax.random.key_data(key))
  assert checksum_of(key) != checksum_of(jax.random.key(5))


def by_hand(array):
  words = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
  total = sum(int(w) * (2 * i + 1) for i, w in enumerate(words))
  return total % 2**32


@pytest.mark.parametrize('shape', [(), (1,), (7,), (3, 5), (2, 3, 5), (0, 3)])
def test_arrays_of_any_rank_sum_their_words_in_order(shape):
  array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  assert checksum_of(jnp.asarray(array)) == by_hand(array)


def test_the_mesh_does_not_matter():
  array = jax.random.normal(jax.random.key(0), (16, 24))
  assert checksum_of(array) == by_hand(np.asarray(array))
  mesh = jax.make_mesh(
    (4, 2), ('data', 'tensor'), axis_types=(AxisType.Auto,) * 2
  )
  for spec in [('data', 'tensor'), ('tensor', 'data'), (None, 'tensor'), ()]:
    placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    assert checksum_of(placed) == checksum_of(array)


@flax.struct.dataclass
class State:
  step: jax.Array
  params: dict


def test_paths_name_fields_keys_and_indices():
  state = State(step=jnp.int32(3), params={'w': (jnp.zeros((3, 5)),)})
  assert checksum.forms(state) == {
    'step': 'int32[]',
    'params/w/0': 'float32[3, 5]',
  }
