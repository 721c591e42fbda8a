# SPDX-License-Identifier: Apache-2.0
"""k-means of points that are brought to mean 0 and variance 1 first.

Shapes: points are [points, dim].
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from absl import logging

from musiclm_jax.array_types import PRNGKey
from musiclm_jax.quantization import kmeans, standardization
from musiclm_jax.quantization import streamed_kmeans as streamed


def fit(
  blocks: streamed.Blocks,
  *,
  start: streamed.Start,
  clustering: streamed.Lloyd | streamed.MiniBatch,
  key: PRNGKey,
) -> tuple[standardization.Scaler, kmeans.Clusters]:
  """Scaler and clusters, from a first pass over the blocks to the last.

  Args:
    blocks: Gives the same blocks in every pass.
    start: How many centroids, and where they begin.
    clustering: How they move.
    key: Draws the sample that centroids begin with.
  """
  sample_key, start_key = jax.random.split(key)
  sampler = streamed.Sampler(num_points=start.num_points, key=sample_key)
  moments, kept = None, []
  for block in blocks():
    found = standardization.Moments.of(block.points, mask=block.mask)
    moments = found if moments is None else moments + found
    sampler.add(block)
    if clustering.keeps_blocks:
      kept.append(block)
  sample = sampler.sample
  scaler = moments.scaler()

  def scaled(block: streamed.Block) -> streamed.Block:
    return block.replace(points=_scale(scaler, block.points))

  # In place of the blocks, one by one: they may fill the memory.
  for number, block in enumerate(kept):
    kept[number] = scaled(block)

  def scaled_blocks() -> Iterator[streamed.Block]:
    return iter(kept) if kept else map(scaled, blocks())

  clusters = clustering.fit(
    scaled_blocks, start=start.centroids(scaled(sample), key=start_key)
  )
  _log(moments, clusters)
  return scaler, clusters


@jax.jit
def _scale(scaler: standardization.Scaler, points: jax.Array) -> jax.Array:
  return scaler(points)


def _log(moments: standardization.Moments, clusters: kmeans.Clusters) -> None:
  counts = np.asarray(clusters.counts)
  share = float(clusters.inertia) / (moments.count * moments.mean.size)
  logging.info(
    '%d points in %d clusters of %d to %d points, %d empty; left of the'
    ' variance: %.4f.',
    moments.count,
    counts.size,
    counts.min(),
    counts.max(),
    np.count_nonzero(counts == 0),
    share,
  )
