# SPDX-License-Identifier: Apache-2.0
"""k-means by Lloyd's iteration, under jit and over a masked global batch.

Lloyd, "Least squares quantization in PCM" (1982). Starts from points drawn
without replacement; a cluster that loses all its points moves to the point that
its centroid serves worst (ours), so no centroid is wasted. The result is a
function of the points and the key, whatever the mesh.

Shapes: points are [points, dim], centroids [clusters, dim].
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from musiclm_jax import metrics
from musiclm_jax.array_types import Array, PRNGKey

Points = Float[Array, 'points dim']
PointMask = Bool[Array, ' points']  # True where valid

# A TPU or a GPU would multiply in half precision, where near codes tie.
_EXACT = jax.lax.Precision.HIGHEST


@flax.struct.dataclass
class Clusters:
  """A fitted k-means.

  Attributes:
    centroids: The mean of each cluster.
    counts: Points of each cluster.
    inertia: Sum over the points of the squared distance to their centroid.
  """

  centroids: Float[Array, 'clusters dim']
  counts: Float[Array, ' clusters']
  inertia: Float[Array, '']


def fit(
  points: Points,
  *,
  num_clusters: int,
  num_iterations: int,
  key: PRNGKey,
  mask: PointMask | None = None,
) -> Clusters:
  """Fits `num_clusters` centroids to the valid points.

  Args:
    points: What to cluster; worked on in float32 or better.
    num_clusters: Centroids; with fewer points than that, some coincide.
    num_iterations: Lloyd iterations.
    key: Draws the start.
    mask: True where a point counts; all do if left out.

  Returns:
    The clusters, sums over the whole array.
  """
  points = jnp.asarray(points, metrics.accumulation_dtype(points.dtype))
  if mask is None:
    mask = jnp.ones(len(points), bool)

  def iterate(_: int | jax.Array, centroids: jax.Array) -> jax.Array:
    codes, distances = nearest(points, centroids)
    counts, sums = tally(points, codes, mask=mask, num_clusters=num_clusters)
    means = sums / jnp.maximum(counts, 1)[:, None]
    worst = jnp.argsort(jnp.where(mask, -distances, jnp.inf))
    empty = counts == 0
    return jnp.where(
      empty[:, None], points[worst[_cycle(_rank(empty), mask)]], means
    )

  start = draw_points(points, num_points=num_clusters, key=key, mask=mask)
  centroids = jax.lax.fori_loop(0, num_iterations, iterate, start)
  codes, distances = nearest(points, centroids)
  counts, _ = tally(points, codes, mask=mask, num_clusters=num_clusters)
  return Clusters(
    centroids=centroids,
    counts=counts,
    inertia=jnp.sum(jnp.where(mask, distances, 0)),
  )


def nearest(
  points: Points, centroids: Float[Array, 'clusters dim']
) -> tuple[Int[Array, ' points'], Float[Array, ' points']]:
  """The nearest centroid of each point, and the squared distance to it.

  Ties go to the lowest index. One matrix product in all.
  """
  # |p - c|^2 = |p|^2 - 2 p.c + |c|^2, of which |p|^2 changes no ranking.
  products = jnp.einsum('nd,kd->nk', points, centroids, precision=_EXACT)
  scores = jnp.sum(centroids**2, axis=-1)[None] - 2 * products
  least = jnp.min(scores, axis=-1)
  # Two plain minima: on CPU `argmin` takes longer than the product above.
  indices = jnp.arange(len(centroids), dtype=jnp.int32)[None]
  codes = jnp.min(
    jnp.where(scores == least[:, None], indices, len(centroids) - 1), axis=-1
  )
  # Round-off may leave the distance below zero.
  return codes, jnp.maximum(least + jnp.sum(points**2, axis=-1), 0)


def tally(
  points: Points,
  codes: Int[Array, ' points'],
  *,
  mask: PointMask,
  num_clusters: int,
) -> tuple[Float[Array, ' clusters'], Float[Array, 'clusters dim']]:
  """How many valid points each cluster has, and their sum."""
  # A product with one-hot rows: a scatter-add has no fixed order on a GPU, and
  # a resumed run must repeat the original bit for bit.
  chosen = jax.nn.one_hot(codes, num_clusters, dtype=points.dtype)
  chosen = chosen * mask[:, None]
  # A masked point may hold anything, and 0 x NaN is NaN.
  points = jnp.where(mask[:, None], points, 0)
  sums = jnp.einsum('nk,nd->kd', chosen, points, precision=_EXACT)
  return jnp.sum(chosen, axis=0), sums


def draw_points(
  points: Points, *, num_points: int, key: PRNGKey, mask: PointMask
) -> Float[Array, 'num_points dim']:
  """Valid points at random, without replacement while there are any left."""
  draws = jnp.where(mask, jax.random.uniform(key, mask.shape), jnp.inf)
  order = jnp.argsort(draws)  # Valid points first, in random order.
  return points[order[_cycle(jnp.arange(num_points), mask)]]


def _cycle(ranks: jax.Array, mask: PointMask) -> jax.Array:
  """Ranks among the valid points, round again where they run out."""
  return ranks % jnp.maximum(jnp.sum(mask), 1)


def _rank(chosen: Bool[Array, ' clusters']) -> Int[Array, ' clusters']:
  """0 for the first True, 1 for the second, and so on."""
  return jnp.maximum(jnp.cumsum(chosen) - 1, 0)
