# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.quantization import kmeans

KEY = jax.random.key(7)


def blobs(*, per_blob=17, dim=3):
  """Points in two tight clusters around 0 and 10."""
  generator = np.random.default_rng(0)
  centers = 10 * np.arange(2)[:, None] * np.ones((1, dim))
  noise = generator.standard_normal((2, per_blob, dim)) / 10
  return (centers[:, None] + noise).reshape(-1, dim).astype(np.float32)


def lloyd(points, centroids, *, num_iterations):
  """The reference, in NumPy; clusters must not run empty."""
  for _ in range(num_iterations):
    codes = np.argmin(((points[:, None] - centroids) ** 2).sum(-1), axis=1)
    centroids = np.stack(
      [points[codes == k].mean(0) for k in range(len(centroids))]
    )
  distances = ((points[:, None] - centroids) ** 2).sum(-1)
  return centroids, distances.min(1).sum()


def test_distinct_clusters_are_found_with_their_means_and_counts():
  points = blobs()
  found = kmeans.fit(points, num_clusters=2, num_iterations=10, key=KEY)
  order = np.argsort(found.centroids[:, 0])
  means = points.reshape(2, 17, 3).mean(1)
  np.testing.assert_allclose(found.centroids[order], means, rtol=1e-4)
  np.testing.assert_array_equal(found.counts, [17] * 2)
  spread = ((points.reshape(2, 17, 3) - means[:, None]) ** 2).sum()
  np.testing.assert_allclose(found.inertia, spread, rtol=1e-3)


@pytest.mark.parametrize('num_iterations', (1, 5))
def test_iterations_are_those_of_the_numpy_reference(num_iterations):
  points = np.random.default_rng(1).standard_normal((211, 2))
  mask = jnp.ones(211, bool)
  with jax.enable_x64():
    start = kmeans.draw_points(points, num_points=7, key=KEY, mask=mask)
    found = kmeans.fit(
      points, num_clusters=7, num_iterations=num_iterations, key=KEY
    )
  centroids, inertia = lloyd(
    points, np.asarray(start), num_iterations=num_iterations
  )
  np.testing.assert_allclose(found.centroids, centroids, rtol=1e-9)
  np.testing.assert_allclose(found.inertia, inertia, rtol=1e-9)


def test_inertia_never_grows_with_iterations():
  points = np.random.default_rng(2).standard_normal((211, 3), np.float32)
  inertias = [
    float(
      kmeans.fit(points, num_clusters=11, num_iterations=n, key=KEY).inertia
    )
    for n in (0, 1, 3, 9)
  ]
  assert inertias == sorted(inertias, reverse=True)
  assert inertias[-1] < 0.9 * inertias[0]


def test_an_empty_cluster_moves_to_the_point_served_worst():
  # Three points alike and one far off: whichever the start, one of the two
  # centroids is empty or both are taken, and the far one ends alone.
  points = jnp.array([[0.0], [0.0], [0.0], [9.0]])
  found = kmeans.fit(points, num_clusters=2, num_iterations=2, key=KEY)
  np.testing.assert_array_equal(jnp.sort(found.centroids[:, 0]), [0, 9])
  np.testing.assert_array_equal(jnp.sort(found.counts), [1, 3])
  assert found.inertia == 0


def test_the_nearest_centroid_is_found_and_ties_go_to_the_first():
  codes, distances = kmeans.nearest(
    jnp.array([[4.0], [6.0], [5.0], [99.0]]), jnp.array([[0.0], [10.0], [10.0]])
  )
  np.testing.assert_array_equal(codes, [0, 1, 0, 1])
  np.testing.assert_allclose(distances, [16, 16, 25, 89**2])


def test_masked_points_change_nothing_even_if_they_are_nan():
  points = blobs()
  mask = np.ones(len(points), bool)
  mask[[3, 20, 33]] = False
  spoilt = points.copy()
  spoilt[~mask] = np.nan
  other = points.copy()
  other[~mask] = 1e6
  found, twin = (
    kmeans.fit(p, num_clusters=5, num_iterations=7, key=KEY, mask=mask)
    for p in (spoilt, other)
  )
  assert np.isfinite(found.centroids).all()
  np.testing.assert_array_equal(found.centroids, twin.centroids)
  assert found.counts.sum() == mask.sum()


def test_points_are_drawn_without_replacement_until_none_is_left():
  points = np.arange(13.0)[:, None]
  mask = np.arange(13) % 2 == 0  # Seven of them.
  few = kmeans.draw_points(points, num_points=7, key=KEY, mask=mask)
  np.testing.assert_array_equal(np.sort(few[:, 0]), points[mask][:, 0])
  many = kmeans.draw_points(points, num_points=14, key=KEY, mask=mask)
  np.testing.assert_array_equal(
    np.sort(many[:, 0]), np.repeat(points[mask][:, 0], 2)
  )


def test_another_key_draws_other_points_and_the_same_key_the_same():
  points, mask = np.arange(97.0)[:, None], np.ones(97, bool)

  def draw(seed):
    key = jax.random.key(seed)
    return np.asarray(
      kmeans.draw_points(points, num_points=11, key=key, mask=mask)
    )

  np.testing.assert_array_equal(draw(0), draw(0))
  assert (draw(0) != draw(1)).any()


def test_a_mesh_of_eight_devices_fits_the_same_centroids():
  points = np.random.default_rng(3).standard_normal((184, 3))
  with jax.enable_x64():
    whole = kmeans.fit(points, num_clusters=8, num_iterations=5, key=KEY)
    mesh = jax.make_mesh(
      (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    spread = jax.device_put(
      points, jax.NamedSharding(mesh, jax.P('data', None))
    )
    fit = jax.jit(
      lambda p: kmeans.fit(p, num_clusters=8, num_iterations=5, key=KEY)
    )
    parts = fit(spread)
  np.testing.assert_allclose(parts.centroids, whole.centroids, rtol=1e-9)
  np.testing.assert_array_equal(parts.counts, whole.counts)
