# SPDX-License-Identifier: Apache-2.0
"""A warm start takes what fits and names what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from musiclm_jax.checkpoints import bundle, warm_start

KERNEL = np.arange(15, dtype=np.float32).reshape(3, 5)


def make_bundle(directory, weights):
  contents = bundle.BundleContents(
    kind='codec', config=None, weights=weights, stream_out=None
  )
  bundle.publish(directory, contents)
  return bundle.load(directory)


def fresh():
  return {
    'params': {'kernel': jnp.zeros((3, 5)), 'bias': jnp.zeros(7)},
    'codebooks': {'counts': jnp.zeros((3,))},
  }


def test_leaves_of_the_same_path_and_shape_are_taken(tmp_path):
  donor = make_bundle(tmp_path, {'params': {'kernel': KERNEL}})
  got = warm_start.from_bundle(fresh(), bundle=donor)
  np.testing.assert_array_equal(got.variables['params']['kernel'], KERNEL)
  assert got.taken == ('params/kernel',)
  assert jax.tree.structure(got.variables) == jax.tree.structure(fresh())


def test_what_does_not_match_stays_and_is_named(tmp_path):
  weights = {
    'params': {'kernel': KERNEL, 'bias': np.ones(11), 'head': np.ones(2)}
  }
  got = warm_start.from_bundle(fresh(), bundle=make_bundle(tmp_path, weights))
  np.testing.assert_array_equal(got.variables['params']['bias'], np.zeros(7))
  assert got.kept == {
    'params/bias': '(11,) in the bundle, (7,) here',
    'codebooks/counts': 'the bundle does not have it',
  }
  assert got.unused == ('params/head',)


def test_precision_and_place_are_those_of_the_fresh_variables(tmp_path):
  kernel = np.arange(8 * 16, dtype=np.float32).reshape(8, 16)
  mesh = jax.make_mesh(
    (2, 4), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2
  )
  place = NamedSharding(mesh, PartitionSpec('data', 'fsdp'))
  zeros = jax.device_put(jnp.zeros((8, 16), jnp.bfloat16), place)
  donor = make_bundle(tmp_path, {'params': {'kernel': kernel}})
  got = warm_start.from_bundle({'params': {'kernel': zeros}}, bundle=donor)
  got = got.variables['params']['kernel']
  assert got.sharding == place and got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got, kernel.astype(jnp.bfloat16))


def test_a_bundle_of_which_nothing_fits_is_an_error(tmp_path):
  donor = make_bundle(tmp_path, {'params': {'other': KERNEL}})
  with pytest.raises(ValueError, match=r'has params/other, wanted are code'):
    warm_start.from_bundle(fresh(), bundle=donor)
