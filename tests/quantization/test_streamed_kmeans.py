# SPDX-License-Identifier: Apache-2.0
"""k-means over blocks: against NumPy, scikit-learn, and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.quantization import streamed_kmeans
from musiclm_jax.quantization.streamed_kmeans import (
  Block,
  Lloyd,
  MiniBatch,
  Sampler,
  Start,
)

KEY = jax.random.key(7)
NUM_BLOCKS, BLOCK, DIM, CLUSTERS = 7, 184, 5, 23


def cloud(seed=0):
  """Overlapping clusters of unlike widths: [blocks, points, dim]."""
  generator = np.random.default_rng(seed)
  centers = 4 * generator.standard_normal((CLUSTERS, DIM))
  which = generator.integers(CLUSTERS, size=(NUM_BLOCKS, BLOCK))
  noise = generator.standard_normal((NUM_BLOCKS, BLOCK, DIM))
  return (centers[which] + (0.3 + which[..., None] / 20) * noise).astype(
    np.float32
  )


def as_blocks(points, mask=None):
  if mask is None:
    mask = np.ones(points.shape[:2], bool)
  made = [Block(jnp.asarray(p), jnp.asarray(m)) for p, m in zip(points, mask)]
  return lambda: made


def sampled(blocks, *, num_points, key=KEY):
  sampler = Sampler(num_points=num_points, key=key)
  for block in blocks():
    sampler.add(block)
  return sampler.sample


def fitted(points, clustering, *, mask=None, **start):
  blocks = as_blocks(points, mask)
  begin = Start(num_clusters=CLUSTERS, **start)
  sample = sampled(blocks, num_points=begin.num_points)
  return clustering.fit(blocks, start=begin.centroids(sample, key=KEY))


def inertia_of(points, centroids):
  points = points.reshape(-1, DIM).astype(np.float64)
  distances = ((points[:, None] - np.asarray(centroids)) ** 2).sum(-1)
  return distances.min(1).sum()


def test_a_pass_gives_every_cluster_the_mean_of_its_points():
  points = cloud()
  start = points[0, :CLUSTERS]
  found = Lloyd(num_iterations=1).fit(as_blocks(points), start=start)
  flat = points.reshape(-1, DIM)
  codes = ((flat[:, None] - start) ** 2).sum(-1).argmin(1)
  means = [flat[codes == k].mean(0) for k in range(CLUSTERS)]
  np.testing.assert_allclose(found.centroids, means, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
    found.inertia, inertia_of(points, means), rtol=1e-4
  )
  assert found.counts.sum() == len(flat)


@pytest.mark.parametrize('method', ['k-means++', 'sampled'])
def test_inertia_is_within_one_percent_of_scikit_learn(method):
  cluster = pytest.importorskip('sklearn.cluster')
  points = cloud()
  if method == 'sampled':  # It misses some of the clusters of a cloud.
    points = np.random.default_rng(0).standard_normal(points.shape)
  theirs = cluster.KMeans(CLUSTERS, n_init=5, random_state=0)
  theirs.fit(points.reshape(-1, DIM))
  start = Start(num_clusters=CLUSTERS, method=method)
  blocks = as_blocks(points)
  # Of as many starts, the best: any one may end in another valley.
  ours = min(
    Lloyd(tolerance=0.0)
    .fit(
      blocks,
      start=start.centroids(
        sampled(blocks, num_points=start.num_points, key=key), key=key
      ),
    )
    .inertia
    for key in jax.random.split(KEY, 5)
  )
  assert ours == pytest.approx(theirs.inertia_, rel=0.01)


def test_mini_batches_come_within_five_percent_of_whole_passes():
  points = cloud()
  whole = fitted(points, Lloyd())
  parts = fitted(points, MiniBatch(num_passes=5))
  reached = inertia_of(points, parts.centroids)
  assert reached <= 1.05 * float(whole.inertia)
  # Of the last pass while it moved: close to, but not the final one.
  assert parts.inertia == pytest.approx(reached, rel=0.1)


def test_a_mini_batch_moves_a_centroid_to_the_mean_of_all_it_has_had():
  points = np.array([[[0.0], [1.0], [10.0]], [[5.0], [11.0], [12.0]]])
  found = MiniBatch(num_passes=1).fit(
    as_blocks(points), start=np.array([[0.0], [10.0]])
  )
  # Had by the first: 0, 1, 5 (5 is nearer to 0.5 than to 10).
  np.testing.assert_allclose(found.centroids, [[2], [11]], rtol=1e-6)
  np.testing.assert_array_equal(found.counts, [3, 3])


@pytest.mark.parametrize('clustering', [Lloyd(), MiniBatch(num_passes=3)])
def test_an_empty_cluster_moves_to_the_point_served_worst(clustering):
  points = np.array([[[0.0], [0.1], [9.0]], [[0.0], [0.2], [5.0]]])
  far = np.array([[0.0], [99.0], [98.0]])  # The last two get no point.
  found = clustering.fit(as_blocks(points), start=far)
  assert (np.asarray(found.counts) > 0).all()
  assert np.max(found.centroids) == 9  # Served worst of all.


def test_points_alike_leave_clusters_empty_and_nothing_breaks():
  points = np.ones((2, 3, 1))
  found = Lloyd().fit(as_blocks(points), start=np.array([[0.0], [5.0]]))
  assert found.inertia == 0
  assert np.isfinite(found.centroids).all()


def test_the_sample_is_even_without_replacement_and_of_valid_points():
  points = np.arange(7 * 11.0).reshape(7, 11, 1)
  mask = np.arange(77).reshape(7, 11) % 4 > 0
  blocks = as_blocks(points, mask)
  counts = np.zeros(77)
  for key in jax.random.split(KEY, 60):
    sample = sampled(blocks, num_points=13, key=key)
    drawn = np.asarray(sample.points[:, 0], int)
    assert len(set(drawn)) == 13
    counts[drawn] += 1
  assert not counts[~mask.ravel()].any()
  # Each of 57 is expected 60 * 13 / 57 = 13.7 times, deviation 3.2.
  assert counts[mask.ravel()].min() > 2 and counts.max() < 28


def test_a_sample_larger_than_the_stream_is_all_of_it_and_masked():
  points = np.arange(6.0).reshape(2, 3, 1)
  sample = sampled(as_blocks(points), num_points=11)
  assert sample.mask.sum() == 6
  drawn = np.asarray(sample.points)[np.asarray(sample.mask), 0]
  np.testing.assert_array_equal(np.sort(drawn), np.arange(6))


def test_plus_plus_takes_one_point_of_each_tight_cluster():
  centers = 100.0 * np.arange(11)[:, None]
  noise = np.random.default_rng(0).random((11, 17))
  points = (centers + noise).reshape(-1, 1)
  mask = np.ones(len(points), bool)
  mask[:17] = False  # The first cluster is hidden.
  chosen = streamed_kmeans.plus_plus(points, num_points=10, key=KEY, mask=mask)
  np.testing.assert_array_equal(np.sort(chosen[:, 0]) // 100, np.arange(1, 11))


def test_the_key_alone_decides_and_masked_points_do_not():
  points = cloud()
  mask = np.random.default_rng(3).random(points.shape[:2]) < 0.7
  spoilt = np.where(mask[..., None], points, np.nan)
  first, again, other = (
    fitted(p, Lloyd(num_iterations=3), mask=mask)
    for p in (points, points, spoilt)
  )
  np.testing.assert_array_equal(first.centroids, again.centroids)
  np.testing.assert_array_equal(first.centroids, other.centroids)


@pytest.mark.parametrize(
  'clustering, method',
  [
    (Lloyd(num_iterations=5), 'k-means++'),
    (MiniBatch(num_passes=2), 'sampled'),
  ],
)
def test_a_mesh_of_eight_devices_fits_the_same_centroids(clustering, method):
  points = cloud().astype(np.float64)
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.NamedSharding(mesh, jax.P('data'))

  def fit(sharding):
    made = [
      jax.device_put(Block(p, np.arange(BLOCK) % 9 > 0), sharding)
      for p in points
    ]
    start = Start(num_clusters=CLUSTERS, method=method)
    sample = sampled(lambda: made, num_points=start.num_points)
    return clustering.fit(lambda: made, start=start.centroids(sample, key=KEY))

  with jax.enable_x64():
    whole, parts = fit(jax.devices()[0]), fit(spread)
  np.testing.assert_allclose(parts.centroids, whole.centroids, rtol=1e-9)
  np.testing.assert_array_equal(parts.counts, whole.counts)


@pytest.mark.parametrize(
  'wanted, message',
  [
    ({'method': 'kmeans'}, "'k-means\\+\\+' or 'sampled', not 'kmeans'"),
    ({'num_clusters': 1}, '1 clusters'),
  ],
)
def test_a_wrong_start_is_named(wanted, message):
  with pytest.raises(ValueError, match=message):
    Start(**wanted)


def test_too_few_points_are_named():
  sample = sampled(as_blocks(np.ones((1, 3, 2))), num_points=5)
  with pytest.raises(ValueError, match='3 points cannot make 4 clusters'):
    Start(num_clusters=4).centroids(sample, key=KEY)
  with pytest.raises(ValueError, match='no points'):
    _ = Sampler(num_points=3, key=KEY).sample
