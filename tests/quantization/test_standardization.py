# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.quantization import standardization
from musiclm_jax.quantization.standardization import Moments


def blocks():
  """Three blocks of 31 points in 5 dimensions, far from 0, a few masked."""
  generator = np.random.default_rng(0)
  scale = np.array([1.0, 100.0, 1e-2, 3.0, 7.0])
  points = 50 + scale * generator.standard_normal((3, 31, 5))
  mask = generator.random((3, 31)) < 0.8
  return points.astype(np.float32), mask


def joined(points, mask):
  parts = [Moments.of(p, mask=m) for p, m in zip(points, mask)]
  return parts[0] + parts[1] + parts[2]


def test_moments_of_blocks_join_to_those_of_all_points():
  points, mask = blocks()
  found = joined(points, mask)
  valid = points[mask].astype(np.float64)
  assert found.count == len(valid)
  np.testing.assert_allclose(found.mean, valid.mean(0), rtol=1e-6)
  np.testing.assert_allclose(
    found.squares / found.count, valid.var(0), rtol=1e-3
  )


def test_scaled_points_have_mean_0_and_variance_1():
  points, mask = blocks()
  scaled = joined(points, mask).scaler()(points)
  np.testing.assert_allclose(scaled[mask].mean(0), np.zeros(5), atol=1e-3)
  np.testing.assert_allclose(scaled[mask].std(0), np.ones(5), rtol=1e-3)


def test_masked_points_count_nothing_even_if_they_are_nan():
  points, mask = blocks()
  spoilt = np.where(mask[..., None], points, np.nan)
  found, twin = joined(points, mask), joined(spoilt, mask)
  np.testing.assert_array_equal(found.mean, twin.mean)
  np.testing.assert_array_equal(found.squares, twin.squares)


def test_a_block_without_valid_points_changes_nothing():
  points, mask = blocks()
  whole = joined(points, mask)
  empty = Moments.of(points[0], mask=np.zeros(31, bool))
  for found in (whole + empty, empty + whole):
    np.testing.assert_allclose(found.mean, whole.mean)
    np.testing.assert_allclose(found.squares, whole.squares)
  assert (empty + empty).count == 0


def test_a_dimension_that_does_not_vary_is_not_divided_by_its_noise():
  points = np.array([[1.0, 3.0], [2.0, 3.0]], np.float32)
  scaler = Moments.of(points, mask=np.ones(2, bool)).scaler()
  np.testing.assert_allclose(scaler(points), [[-1, 0], [1, 0]])


def test_no_points_and_spoilt_points_are_named():
  none = Moments.of(np.ones((2, 3), np.float32), mask=np.zeros(2, bool))
  with pytest.raises(ValueError, match='no points'):
    none.scaler()
  spoilt = Moments.of(jnp.full((2, 3), jnp.nan), mask=np.ones(2, bool))
  with pytest.raises(ValueError, match='NaN or infinite'):
    spoilt.scaler()


def test_a_mesh_of_eight_devices_has_the_same_moments():
  points = np.random.default_rng(1).standard_normal((184, 3))
  mask = np.arange(184) % 3 > 0
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  with jax.enable_x64():
    whole = standardization.Moments.of(points, mask=mask)
    parts = standardization.Moments.of(
      *[jax.device_put(points, jax.NamedSharding(mesh, jax.P('data')))],
      mask=jax.device_put(mask, jax.NamedSharding(mesh, jax.P('data'))),
    )
  np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12, atol=1e-15)
  np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-12)
