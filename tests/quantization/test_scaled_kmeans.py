# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from musiclm_jax.quantization import scaled_kmeans
from musiclm_jax.quantization.streamed_kmeans import (
  Block,
  Lloyd,
  MiniBatch,
  Start,
)

CLUSTERS, DIM = 5, 3


def blocks():
  """Points whose dimensions are of unlike scale; some are masked and NaN."""
  generator = np.random.default_rng(0)
  scale, shift = np.array([1.0, 100.0, 0.01]), np.array([7.0, -3.0, 0.5])
  for _ in range(4):
    points = shift + scale * generator.standard_normal((61, DIM))
    mask = generator.random(61) < 0.8
    points[~mask] = np.nan
    yield Block(points.astype(np.float32), mask)


@pytest.mark.parametrize('clustering', [Lloyd(), MiniBatch(num_passes=3)])
def test_centroids_are_means_of_scaled_points(clustering):
  passes = []

  def source():
    passes.append(None)
    return blocks()

  scaler, clusters = scaled_kmeans.fit(
    source,
    start=Start(num_clusters=CLUSTERS),
    clustering=clustering,
    key=jax.random.key(5),
  )
  points = np.concatenate([block.points[block.mask] for block in blocks()])
  np.testing.assert_allclose(scaler.mean, points.mean(0), rtol=1e-4)
  np.testing.assert_allclose(scaler.deviation, points.std(0), rtol=1e-3)
  scaled = (points - points.mean(0)) / points.std(0)
  distances = ((scaled[:, None] - np.asarray(clusters.centroids)) ** 2).sum(-1)
  assert clusters.counts.sum() == len(points)
  inertia = distances.min(1).sum()
  assert clusters.inertia == pytest.approx(inertia, rel=0.15)
  assert inertia < 0.7 * scaled.size  # Of the variance, at most so much left.
  # Points in memory are made once, others in every pass.
  assert len(passes) == (1 if isinstance(clustering, Lloyd) else 4)
