# SPDX-License-Identifier: Apache-2.0
"""One codebook that follows its input: exponential averages, no gradient.

SoundStream (Zeghidour et al., 2021), section III-C: codes are moving averages
of the frames they were chosen for, start from k-means on the first batch, and
are replaced by a random frame of the batch when hardly any frame chooses them.
The averages are those of van den Oord et al., "Neural Discrete Representation
Learning" (2017), appendix A.1.

Everything here is float32 or better and counts over the global batch.

Shapes: frames are [frames, dim], with the batch folded into the frames.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from musiclm_jax.array_types import Array, PRNGKey
from musiclm_jax.quantization import kmeans


@flax.struct.dataclass
class Codebook:
  """A codebook and the moving averages that it is, or a stack of them.

  Attributes:
    embeddings: What each code decodes to: the mean of the frames that chose it.
    counts: How many frames a batch chose it.
  """

  embeddings: Float[Array, '*levels codebook dim']
  counts: Float[Array, '*levels codebook']


def start(
  frames: kmeans.Points,
  *,
  codebook_size: int,
  num_iterations: int,
  key: PRNGKey,
  mask: kmeans.PointMask,
) -> Codebook:
  """A codebook fitted to the first batch by k-means."""
  clusters = kmeans.fit(
    frames,
    num_clusters=codebook_size,
    num_iterations=num_iterations,
    key=key,
    mask=mask,
  )
  return Codebook(clusters.centroids, clusters.counts)


def follow(
  codebook: Codebook,
  frames: kmeans.Points,
  codes: Int[Array, ' frames'],
  *,
  decay: float,
  dead_code_threshold: float,
  key: PRNGKey,
  mask: kmeans.PointMask,
) -> tuple[Codebook, Float[Array, ' codebook']]:
  """Moves the averages by one batch and restarts the codes that died.

  Args:
    codebook: As it was when the codes were chosen.
    frames: What was quantized.
    codes: The code each frame chose.
    decay: Share of the old average that is kept.
    dead_code_threshold: A code whose average count falls below it becomes a
      random frame of this batch, with that count (the count is ours).
    key: Draws those frames.
    mask: True where a frame counts.

  Returns:
    The new codebook, and how many frames of this batch chose each code.
  """
  batch_counts, batch_sums = kmeans.tally(
    frames, codes, mask=mask, num_clusters=len(codebook.counts)
  )
  kept = decay * codebook.counts
  counts = kept + (1 - decay) * batch_counts
  sums = kept[:, None] * codebook.embeddings + (1 - decay) * batch_sums
  # A code nobody ever chose has no mean; it stays where it is.
  means = jnp.where(
    counts[:, None] > 0,
    sums / jnp.where(counts > 0, counts, 1)[:, None],
    codebook.embeddings,
  )
  dead = (counts < dead_code_threshold) & jnp.any(mask)
  fresh = kmeans.draw_points(frames, num_points=len(counts), key=key, mask=mask)
  return Codebook(
    embeddings=jnp.where(dead[:, None], fresh, means),
    counts=jnp.where(dead, dead_code_threshold, counts),
  ), batch_counts


def perplexity(
  counts: Float[Array, '*levels codebook'],
) -> Float[Array, '*levels']:
  """How many equally likely codes would carry as much as these counts do."""
  total = jnp.sum(counts, axis=-1, keepdims=True)
  shares = counts / jnp.where(total == 0, 1, total)
  return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares), axis=-1))


def usage(counts: Float[Array, '*levels codebook']) -> Float[Array, '*levels']:
  """Share of the codes that were chosen at all."""
  return jnp.mean((counts > 0).astype(counts.dtype), axis=-1)
