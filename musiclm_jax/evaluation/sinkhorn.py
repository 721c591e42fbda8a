# SPDX-License-Identifier: Apache-2.0
"""Optimal transport between token histograms, batched, by Sinkhorn iterations.

Sinkhorn Distances (Cuturi, 2013), algorithm 1, in the log domain. A histogram is
given as the tokens themselves, each a point of equal mass: splitting a bin into
points of one place changes neither the plan nor its cost, and empty bins never
appear, so every pair has one shape. Regularization only adds to the exact cost,
at most `regularization` times the logarithm of the number of tokens.

Shapes: pairs = rows that are compared, length = tokens of a row, codes = bins.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Of one compiled call, which runs until its slowest pair is done.
_PAIRS_AT_A_TIME = 64


def ground_distances(
  centroids: Float[np.ndarray, 'codes dim'],
) -> Float[np.ndarray, 'codes codes']:
  """Euclidean distances between centroids, from float64."""
  points = np.asarray(centroids, np.float64)
  squares = np.sum(points**2, axis=1)
  squared = squares[:, None] + squares[None] - 2 * points @ points.T
  np.fill_diagonal(squared, 0)  # Rounding would leave its square root.
  return np.sqrt(np.maximum(squared, 0)).astype(np.float32)


def transport_costs(
  first: Int[np.ndarray, 'pairs length'],
  second: Int[np.ndarray, 'pairs length'],
  *,
  ground: Float[np.ndarray, 'codes codes'],
  regularization: float,
  tolerance: float = 1e-3,
  max_iterations: int = 2_000,
) -> Float[np.ndarray, ' pairs']:
  """The cost of moving each row's histogram onto the other's.

  Args:
    first: Tokens; their order does not matter.
    second: Tokens of the other rows.
    ground: Cost of moving a whole histogram from one bin to another.
    regularization: Weight of the plan's entropy, in the units of `ground`.
    tolerance: Iterations end when less than this share of the mass of the plan
      is out of place.
    max_iterations: They end there in any case.
  """
  costs = []
  for start in range(0, len(first), _PAIRS_AT_A_TIME):
    rows = np.arange(start, min(start + _PAIRS_AT_A_TIME, len(first)))
    filled = np.resize(rows, _PAIRS_AT_A_TIME)  # One shape, one program.
    found = _costs(
      first[filled],
      second[filled],
      jnp.asarray(ground, jnp.float32),
      regularization=regularization,
      tolerance=tolerance,
      max_iterations=max_iterations,
    )
    costs.append(np.asarray(found)[: len(rows)])
  return np.concatenate(costs) if costs else np.zeros(0, np.float32)


@functools.partial(
  jax.jit, static_argnames=('regularization', 'tolerance', 'max_iterations')
)
def _costs(
  first: Int[Array, 'pairs length'],
  second: Int[Array, 'pairs length'],
  ground: Float[Array, 'codes codes'],
  *,
  regularization: float,
  tolerance: float,
  max_iterations: int,
) -> Float[Array, ' pairs']:
  cost = ground[
    first[:, :, None], second[:, None, :]
  ]  # [pairs, length, length]
  scaled = cost / regularization
  log_mass = -jnp.log(jnp.float32(first.shape[1]))  # Of every token.

  def soft_minimum(potential: jax.Array, axis: int) -> jax.Array:
    """Over the other row's tokens, of the scaled cost less its potential."""
    inner = jnp.expand_dims(potential, 3 - axis) - scaled
    return -jax.nn.logsumexp(inner + log_mass, axis=axis)

  def is_wanted(state: tuple[jax.Array, ...]) -> jax.Array:
    _, _, misplaced, iteration = state
    return (jnp.max(misplaced) > tolerance) & (iteration < max_iterations)

  def iterate(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    rows, columns, _, iteration = state
    better = soft_minimum(columns, 2)
    # The plan of the old potentials has exact columns; its rows hold the mass
    # exp(rows - better) of what they should.
    misplaced = jnp.mean(jnp.abs(jnp.exp(rows - better) - 1), axis=1)
    return better, soft_minimum(better, 1), misplaced, iteration + 1

  zeros = jnp.zeros(first.shape, jnp.float32)
  start = (zeros, zeros, jnp.full(len(first), jnp.inf), jnp.int32(0))
  rows, columns, _, _ = jax.lax.while_loop(is_wanted, iterate, start)
  log_plan = rows[:, :, None] + columns[:, None, :] - scaled + 2 * log_mass
  return jnp.sum(jnp.exp(log_plan) * cost, axis=(1, 2))
