# SPDX-License-Identifier: Apache-2.0
"""k-means over points that come in blocks, so that a corpus need not fit.

Start: k-means++ (Arthur and Vassilvitskii, 2007), its greedy form, or points
as drawn; both over a sample of the whole stream. Then Lloyd's iteration (1982)
over blocks that stay on the devices, or mini-batches (Sculley, "Web-scale
k-means clustering", 2010) over blocks that are made anew in every pass. A
cluster that got no point in a pass moves to a point served worst (ours).

Every function means the same on any mesh: a block may be split over devices by
its points. The result is a function of the blocks and the key alone.

Shapes: points are [points, dim], centroids [clusters, dim].
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable

import flax.struct
import jax
import jax.numpy as jnp
from absl import logging
from jaxtyping import Bool, Float, Int

from musiclm_jax import metrics
from musiclm_jax.array_types import Array, PRNGKey
from musiclm_jax.quantization import kmeans

Centroids = Float[Array, 'clusters dim']

# Clusters that one pass can move; more than that wait for the next.
_MAX_MOVED = 32


@flax.struct.dataclass
class Block:
  """Some of the points.

  Attributes:
    points: What to cluster.
    mask: True where a point counts.
  """

  points: Float[Array, 'points dim']
  mask: Bool[Array, ' points']


# Called once a pass; gives the same blocks in the same order each time.
Blocks = Callable[[], Iterable[Block]]


class Sampler:
  """Points of a stream, drawn evenly and without replacement.

  Each point has a random priority that depends on the key, its block's number
  and its place; the highest stay.
  """

  def __init__(self, *, num_points: int, key: PRNGKey):
    self._num_points = num_points
    self._key = key
    self._priorities = None
    self._points = None
    self._num_blocks = 0

  def add(self, block: Block) -> None:
    if self._points is None:
      dim = block.points.shape[-1]
      self._priorities = jnp.full(self._num_points, -jnp.inf)
      self._points = jnp.zeros((self._num_points, dim), block.points.dtype)
    key = jax.random.fold_in(self._key, self._num_blocks)
    self._num_blocks += 1
    self._priorities, self._points = _keep_highest(
      self._priorities, self._points, block, key
    )

  @property
  def sample(self) -> Block:
    """Fewer than asked for, the rest masked, where the stream holds fewer."""
    if self._points is None:
      raise ValueError('There are no points to draw from.')
    return Block(self._points, jnp.isfinite(self._priorities))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
  """Where centroids begin.

  Attributes:
    num_clusters: How many.
    method: 'k-means++', or 'sampled' for points as drawn.
    points_per_cluster: Size of the sample that k-means++ chooses from.
  """

  num_clusters: int = 1024
  method: str = 'k-means++'
  points_per_cluster: int = 16

  def __post_init__(self):
    if self.method not in ('k-means++', 'sampled'):
      raise ValueError(
        f"method must be 'k-means++' or 'sampled', not {self.method!r}."
      )
    if self.num_clusters < 2 or self.points_per_cluster < 1:
      raise ValueError(
        f'{self.num_clusters} clusters from {self.points_per_cluster} points'
        ' each; at least 2 and 1 are needed.'
      )

  @property
  def num_points(self) -> int:
    """Of the sample."""
    return self.num_clusters * self.points_per_cluster

  def centroids(self, sample: Block, *, key: PRNGKey) -> Centroids:
    """The first centroids, chosen from the valid points of the sample.

    Raises:
      ValueError: There are fewer of them than clusters.
    """
    num_valid = int(jnp.sum(sample.mask))
    if num_valid < self.num_clusters:
      raise ValueError(
        f'{num_valid} points cannot make {self.num_clusters} clusters; give'
        ' more audio, or ask for fewer.'
      )
    choose = plus_plus if self.method == 'k-means++' else kmeans.draw_points
    return jax.jit(functools.partial(choose, num_points=self.num_clusters))(
      sample.points, key=key, mask=sample.mask
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lloyd:
  """Whole passes over points that stay in the memory of the devices.

  Attributes:
    num_iterations: Passes at most.
    tolerance: Ends when a pass lowers the inertia by less than this share.
  """

  num_iterations: int = 100
  tolerance: float = 1e-4

  keeps_blocks = True

  def fit(self, blocks: Blocks, *, start: Centroids) -> kmeans.Clusters:
    centroids, before = jnp.asarray(start), math.inf
    for number in range(self.num_iterations):
      tally = _pass(blocks, centroids)
      inertia = float(tally.inertia)
      logging.info('k-means pass %d: inertia %.6g.', number, inertia)
      if inertia >= (1 - self.tolerance) * before:
        break
      centroids, before = _means(tally, centroids), inertia
    else:
      tally = _pass(blocks, centroids)
    return kmeans.Clusters(
      centroids=centroids,
      counts=tally.counts.astype(centroids.dtype),
      inertia=tally.inertia,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniBatch:
  """Centroids move after every block, by 1 / (points they have had so far).

  Attributes:
    num_passes: Over all blocks, each made anew.
  """

  num_passes: int = 2

  keeps_blocks = False

  def fit(self, blocks: Blocks, *, start: Centroids) -> kmeans.Clusters:
    centroids = jnp.asarray(start)
    totals = jnp.zeros(len(start), jnp.int32)
    for number in range(self.num_passes):
      tally = _empty(centroids)
      for block in blocks():
        centroids, totals, tally = _move(centroids, totals, tally, block)
      logging.info('k-means pass %d: inertia %.6g.', number, tally.inertia)
      if number + 1 < self.num_passes:
        centroids = _reseeded(tally, centroids)
        totals = jnp.where(tally.counts == 0, 0, totals)
    return kmeans.Clusters(
      centroids=centroids,
      counts=tally.counts.astype(centroids.dtype),
      inertia=tally.inertia,
    )


def plus_plus(
  points: Float[Array, 'points dim'],
  *,
  num_points: int,
  key: PRNGKey,
  mask: Bool[Array, ' points'],
) -> Float[Array, 'num_points dim']:
  """Chooses valid points by greedy k-means++.

  Each next one is the best of 2 + ln(num_points) candidates that are drawn by
  their squared distance to those chosen before.
  """
  points = jnp.where(mask[:, None], points, 0)
  dtype = metrics.accumulation_dtype(points.dtype)
  points = points.astype(dtype)
  num_trials = 2 + int(math.log(num_points))
  first_key, key = jax.random.split(key)
  first = kmeans.draw_points(points, num_points=1, key=first_key, mask=mask)

  def choose(
    number: jax.Array, carry: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    chosen, least = carry
    draws = jax.random.uniform(
      jax.random.fold_in(key, number), (num_trials,), dtype
    )
    heights = jnp.cumsum(least)
    drawn = jnp.searchsorted(heights, draws * heights[-1], side='right')
    candidates = points[jnp.minimum(drawn, len(points) - 1)]
    after = jnp.minimum(
      least[:, None], squared_distances(points, candidates, mask=mask)
    )
    best = jnp.argmin(jnp.sum(after, axis=0))
    return chosen.at[number].set(candidates[best]), after[:, best]

  chosen = jnp.zeros((num_points, points.shape[-1]), dtype).at[0].set(first[0])
  least = squared_distances(points, first, mask=mask)[:, 0]
  return jax.lax.fori_loop(1, num_points, choose, (chosen, least))[0]


def squared_distances(
  points: Float[Array, 'points dim'],
  centroids: Centroids,
  *,
  mask: Bool[Array, ' points'],
) -> Float[Array, 'points clusters']:
  """|point - centroid|², 0 for a masked point."""
  products = jnp.einsum(
    'nd,kd->nk', points, centroids, precision=jax.lax.Precision.HIGHEST
  )
  squares = (
    jnp.sum(points**2, axis=-1)[:, None]
    - 2 * products
    + jnp.sum(centroids**2, axis=-1)[None]
  )
  return jnp.where(mask[:, None], jnp.maximum(squares, 0), 0)


@flax.struct.dataclass
class _Tally:
  """One pass so far.

  Attributes:
    counts: Points of each cluster.
    sums: Their sums.
    inertia: Sum of the squared distances.
    worst_distances: The largest of these, in falling order.
    worst_points: The points that have them.
  """

  counts: Int[Array, ' clusters']
  sums: Float[Array, 'clusters dim']
  inertia: Float[Array, '']
  worst_distances: Float[Array, ' worst']
  worst_points: Float[Array, 'worst dim']


def _empty(centroids: Centroids) -> _Tally:
  num_clusters, dim = centroids.shape
  worst = min(_MAX_MOVED, num_clusters)
  dtype = centroids.dtype
  return _Tally(
    counts=jnp.zeros(num_clusters, jnp.int32),
    sums=jnp.zeros((num_clusters, dim), dtype),
    inertia=jnp.zeros((), dtype),
    worst_distances=jnp.full(worst, -jnp.inf, dtype),
    worst_points=jnp.zeros((worst, dim), dtype),
  )


def _pass(blocks: Blocks, centroids: Centroids) -> _Tally:
  tally = _empty(centroids)
  for block in blocks():
    tally = _add(tally, centroids, block)
  return tally


@jax.jit
def _add(tally: _Tally, centroids: Centroids, block: Block) -> _Tally:
  """Gives each point of the block to its nearest centroid."""
  return _combine(tally, _tally_block(centroids, block))


@jax.jit
def _move(
  centroids: Centroids,
  totals: Int[Array, ' clusters'],
  tally: _Tally,
  block: Block,
) -> tuple[Centroids, Int[Array, ' clusters'], _Tally]:
  """As `_add`, and moves each centroid to the mean of all it has had."""
  found = _tally_block(centroids, block)
  totals = totals + found.counts
  counts = found.counts.astype(centroids.dtype)[:, None]
  shares = jnp.maximum(totals, 1).astype(centroids.dtype)[:, None]
  moved = centroids + (found.sums - counts * centroids) / shares
  return moved, totals, _combine(tally, found)


def _tally_block(centroids: Centroids, block: Block) -> _Tally:
  points = jnp.where(block.mask[:, None], block.points, 0)
  points = points.astype(centroids.dtype)
  codes, distances = kmeans.nearest(points, centroids)
  counts, sums = kmeans.tally(
    points, codes, mask=block.mask, num_clusters=len(centroids)
  )
  num_worst = min(_MAX_MOVED, len(centroids), len(points))
  worst_distances, places = jax.lax.top_k(
    jnp.where(block.mask, distances, -jnp.inf), num_worst
  )
  return _Tally(
    counts=counts.astype(jnp.int32),
    sums=sums,
    inertia=jnp.sum(jnp.where(block.mask, distances, 0)),
    worst_distances=worst_distances,
    worst_points=points[places],
  )


def _combine(tally: _Tally, other: _Tally) -> _Tally:
  distances = jnp.concatenate([tally.worst_distances, other.worst_distances])
  points = jnp.concatenate([tally.worst_points, other.worst_points])
  distances, places = jax.lax.top_k(distances, len(tally.worst_distances))
  return _Tally(
    counts=tally.counts + other.counts,
    sums=tally.sums + other.sums,
    inertia=tally.inertia + other.inertia,
    worst_distances=distances,
    worst_points=points[places],
  )


@jax.jit
def _means(tally: _Tally, centroids: Centroids) -> Centroids:
  """The mean of each cluster; those without points are moved."""
  counts = jnp.maximum(tally.counts, 1).astype(centroids.dtype)[:, None]
  means = jnp.where((tally.counts > 0)[:, None], tally.sums / counts, centroids)
  return _reseeded(tally, means)


@jax.jit
def _reseeded(tally: _Tally, centroids: Centroids) -> Centroids:
  """The first empty cluster goes to the point served worst, and so on."""
  empty = tally.counts == 0
  rank = jnp.maximum(jnp.cumsum(empty) - 1, 0)
  # A point that is served exactly would make two clusters alike.
  usable = jnp.sum(tally.worst_distances > 0)
  moves = empty & (rank < usable)
  places = jnp.minimum(rank, len(tally.worst_distances) - 1)
  return jnp.where(moves[:, None], tally.worst_points[places], centroids)


@jax.jit
def _keep_highest(
  priorities: Float[Array, ' kept'],
  points: Float[Array, 'kept dim'],
  block: Block,
  key: PRNGKey,
) -> tuple[Float[Array, ' kept'], Float[Array, 'kept dim']]:
  """The highest priorities of those kept and those of the block."""
  drawn = jax.random.uniform(key, block.mask.shape, priorities.dtype)
  drawn = jnp.where(block.mask, drawn, -jnp.inf)
  priorities, places = jax.lax.top_k(
    jnp.concatenate([priorities, drawn]), len(priorities)
  )
  fresh = jnp.where(block.mask[:, None], block.points, 0)
  return priorities, jnp.concatenate([points, fresh])[places]
