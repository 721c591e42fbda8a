# SPDX-License-Identifier: Apache-2.0
"""FAD: how far the embeddings of one set of music are from those of another.

Fréchet Audio Distance (Kilgour et al., 2019), section 4: both sets are taken
for Gaussian, and the figure is the squared 2-Wasserstein distance of these. It
grows as music is left out, on either side: to first order by a constant over
the number of samples, so that a line through the figures of smaller sets tells
that of endless ones, FAD∞ (Effectively unbiased FID and Inception Score, Chong
and Forsyth, 2020, section 3; for music, Adapting Fréchet Audio Distance for
generative music evaluation, Gui et al., 2024). Ours: both sets are made smaller
together; these papers keep the reference whole, whose own share, small where it
is large, then stays in the figure. A figure is of an embedder: it says nothing
beside one of another.

Shapes: embeddings [frames, dim] of one clip, covariance [dim, dim] (see
`moments`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Float

from musiclm_jax.evaluation import bootstrap
from musiclm_jax.evaluation.moments import (
  Embeddings,
  Moments,
  checked,
  moments_of,
)

# Below this many samples for each dimension a report warns.
SAMPLES_PER_DIM = 5

_NUM_RESAMPLES = 100  # A resample is two decompositions.
_NUM_SIZES, _DRAWS_OF_A_SIZE = 8, 4
_SMALLEST_SHARE = 0.25  # Of the clips, in the smallest set of FAD∞.

_EPSILON = np.finfo(np.float64).eps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
  """A mean and a covariance, by its root.

  Attributes:
    mean: [dim].
    root: Its product with itself, root.T @ root, is the covariance; as many
      rows as that has rank.
    count: The samples that it is of.
  """

  mean: Float[np.ndarray, ' dim']
  root: Float[np.ndarray, 'rank dim']
  count: int

  @classmethod
  def of(cls, moments: Moments) -> Gaussian:
    """Eigenvalues that are rounding noise are 0: a root would blow them up."""
    values, vectors = scipy.linalg.eigh(moments.covariance)
    noise = max(values[-1], 0) * len(values) * _EPSILON
    kept = values > noise
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return cls(mean=moments.mean, root=root, count=moments.count)

  @classmethod
  def of_few(cls, embeddings: Embeddings) -> Gaussian:
    """The same of fewer samples than dimensions, without their covariance."""
    embeddings = checked(embeddings)
    mean = embeddings.mean(axis=0)
    deviations = (embeddings - mean) / np.sqrt(max(len(embeddings) - 1, 1))
    _, values, vectors = scipy.linalg.svd(deviations, full_matrices=False)
    kept = values > values[0] * max(deviations.shape) * _EPSILON
    root = values[kept][:, None] * vectors[kept]
    return cls(mean=mean, root=root, count=len(embeddings))

  @property
  def rank(self) -> int:
    """Of the covariance; dim if it is regular."""
    return len(self.root)

  def distance(self, other: Gaussian) -> float:
    """The squared 2-Wasserstein distance.

    The trace of the root of the product of both covariances is the sum of the
    singular values of the product of their roots: nothing is inverted, so that
    a covariance of any rank will do, and equal ones give 0 up to rounding.
    """
    apart = self.mean - other.mean
    spread = np.sum(self.root**2) + np.sum(other.root**2)
    product = self.root @ other.root.T
    in_common = scipy.linalg.svdvals(product).sum() if product.size else 0.0
    return max(float(apart @ apart + spread - 2 * in_common), 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrechetFigures:
  """How far a set is from its reference.

  What `measure_plainly` leaves out is NaN, or empty.

  Attributes:
    distance: With an interval over clips of the set; the reference is taken as
      it is. The interval is that of the spread alone: the bias of a small set
      is what `at_infinity` is without.
    at_infinity: FAD∞; NaN if either set is too small to take parts of.
    fit: How much of the spread of the sizes' figures the line explains, 1 for
      all.
    by_size: Figure by number of samples of the set, the reference being
      smaller by the same share: what the line was drawn through.
    num_samples: Of the set, and of the reference.
    ranks: Of their covariances.
    dim: Of an embedding.
    per_clip: From each clip of the set to the reference; NaN for a clip of one
      sample, which has no covariance.
  """

  distance: bootstrap.Estimate
  at_infinity: float
  fit: float
  by_size: dict[int, float]
  num_samples: tuple[int, int]
  ranks: tuple[int, int]
  dim: int
  per_clip: tuple[float, ...]

  @property
  def warnings(self) -> tuple[str, ...]:
    """What makes the figure weak."""
    found = []
    for side, count, rank in zip(
      ('the set', 'the reference'), self.num_samples, self.ranks
    ):
      if count < SAMPLES_PER_DIM * self.dim:
        found.append(
          f'{count} samples of {side} are few for {self.dim} dimensions (their'
          f' covariance has rank {rank}): fewer than'
          f' {SAMPLES_PER_DIM * self.dim} overstate the distance'
        )
      elif rank < self.dim:
        found.append(f'the covariance of {side} has rank {rank} of {self.dim}')
    return tuple(found)


def frechet_distance(first: Moments, second: Moments) -> float:
  """FAD of two sets."""
  return Gaussian.of(first).distance(Gaussian.of(second))


def measure(
  clips: Sequence[Embeddings], *, reference: Sequence[Embeddings], seed: int = 0
) -> FrechetFigures:
  """FAD of clips, its interval, FAD∞ and the figure of each clip.

  Args:
    clips: The embeddings of each clip of the set.
    reference: Those of each clip of the reference.
    seed: Of what is drawn.
  """
  goal = gaussian_of(reference)

  def of_rows(rows: bootstrap.Rows) -> float:
    return goal.distance(gaussian_of([clips[row] for row in rows]))

  by_size = _by_size(clips, reference, seed=seed)
  at_infinity, fit = _extrapolate(by_size)
  distance = bootstrap.estimate(
    of_rows,
    groups=range(len(clips)),
    num_resamples=_NUM_RESAMPLES,
    seed=seed,
    recentred=True,
  )
  return dataclasses.replace(
    measure_plainly(clips, goal=goal),
    distance=dataclasses.replace(distance, low=max(distance.low, 0.0)),
    at_infinity=at_infinity,
    fit=fit,
    by_size=by_size,
    per_clip=tuple(
      of_rows(np.array([row])) if len(clip) > 1 else float('nan')
      for row, clip in enumerate(clips)
    ),
  )


def measure_plainly(
  clips: Sequence[Embeddings], *, goal: Gaussian
) -> FrechetFigures:
  """FAD of clips alone, to a reference whose Gaussian is there already."""
  found, nan = gaussian_of(clips), float('nan')
  return FrechetFigures(
    distance=bootstrap.Estimate(
      mean=goal.distance(found), low=nan, high=nan, num_clips=len(clips)
    ),
    at_infinity=nan,
    fit=nan,
    by_size={},
    num_samples=(found.count, goal.count),
    ranks=(found.rank, goal.rank),
    dim=len(goal.mean),
    per_clip=(),
  )


def gaussian_of(clips: Sequence[Embeddings]) -> Gaussian:
  """By whichever decomposition is smaller; of many samples, part by part."""
  if clips and sum(map(len, clips)) < clips[0].shape[1]:
    return Gaussian.of_few(np.concatenate(clips))
  return Gaussian.of(moments_of(clips))


def _by_size(
  clips: Sequence[Embeddings], reference: Sequence[Embeddings], *, seed: int
) -> dict[int, float]:
  """Mean figures of parts of both, drawn by clips, evenly spaced in 1 / N."""
  draw = np.random.default_rng(seed)
  shares = 1 / np.linspace(1 / _SMALLEST_SHARE, 1, _NUM_SIZES)
  fewer = min(len(clips), len(reference))
  sizes = sorted({round(share * fewer) for share in shares} - {0})

  def part_of(side: Sequence[Embeddings], share: float) -> list[Embeddings]:
    size = round(share * len(side))
    rows = draw.choice(len(side), size=size, replace=False)
    return [side[row] for row in rows]

  found = {}
  for size in sizes:
    counts, figures = [], []
    for _ in range(_DRAWS_OF_A_SIZE if size < fewer else 1):
      ours, theirs = (part_of(s, size / fewer) for s in (clips, reference))
      counts.append(sum(map(len, ours)))
      figures.append(gaussian_of(theirs).distance(gaussian_of(ours)))
    found[int(np.mean(counts))] = float(np.mean(figures))
  return found


def _extrapolate(by_size: dict[int, float]) -> tuple[float, float]:
  """Where the line over 1 / N is at 0, and how well it fits."""
  if len(by_size) < 3:
    return float('nan'), float('nan')
  inverse = 1 / np.array(list(by_size), np.float64)
  figures = np.array(list(by_size.values()))
  slope, at_infinity = np.polyfit(inverse, figures, 1)
  left = figures - (slope * inverse + at_infinity)
  spread = np.sum((figures - figures.mean()) ** 2)
  fit = 1 - np.sum(left**2) / spread if spread > 0 else 1.0
  return float(at_infinity), float(fit)
