# SPDX-License-Identifier: Apache-2.0
"""All that a training run carries from step to step, and how it moves on.

One dataclass serves the plain and the adversarial trainer: for the latter,
`params`, `collections` and `opt_state` are dictionaries of 'generator' and
'discriminator'. What is not in here does not survive a restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Bool, Float

from musiclm_jax import metrics
from musiclm_jax.array_types import Batch, PRNGKey, Variables
from musiclm_jax.metrics import Evaluation, WeightedMean


@flax.struct.dataclass
class TrainState:
  """The state of a run: a pytree of arrays, so it is saved as it is.

  Attributes:
    step: Batches consumed, skipped ones included: the data position.
    num_skipped: Steps whose loss or gradient was not finite.
    num_skipped_in_a_row: Of these, the ones since the last good step.
    seed: Every key of the run follows from it and from `step`.
    params: What takes gradients.
    collections: The other Linen collections, codebook statistics for one.
    opt_state: Of the optimizer, or of both.
    averaged: Moving average of the variables that are published and
      evaluated (of the generator, where there are two players), or `None`.
  """

  # Not typed as arrays: the same tree also holds shapes and shardings.
  step: Any  # int32 []
  num_skipped: Any  # int32 []
  num_skipped_in_a_row: Any  # int32 []
  seed: Any  # uint32 []
  params: Any
  collections: Any
  opt_state: Any
  averaged: Any  # Variables or None

  def step_key(self) -> PRNGKey:
    """The key of this step; a resumed run therefore repeats the original."""
    return jax.random.fold_in(_key(self.seed, stream=1), self.step)

  def evaluation_key(self) -> PRNGKey:
    """The key of every evaluation."""
    return _key(self.seed, stream=2)


@runtime_checkable
class Trainable(Protocol):
  """What the loop drives: a state's beginning, its step, its fruits."""

  def init(self, seed: int | jax.Array, batch: Batch) -> TrainState:
    """The first state; variables are boxed with their logical axes."""
    ...

  def train_step(
    self, state: TrainState, batch: Batch
  ) -> tuple[TrainState, Mapping[str, WeightedMean]]: ...

  def evaluate(self, state: TrainState, batch: Batch) -> Evaluation: ...

  def published_variables(self, state: TrainState) -> Variables:
    """Those that are evaluated and published."""
    ...

  def with_variables(
    self, state: TrainState, variables: Variables
  ) -> TrainState:
    """A first state that begins with other `published_variables`."""
    ...

  def bundle(self, state: TrainState) -> Any: ...


def init_key(seed: int | jax.Array) -> PRNGKey:
  return _key(jnp.asarray(seed, jnp.uint32), stream=0)


def first_state(
  seed: int | jax.Array,
  *,
  params: Any,
  collections: Any,
  opt_state: Any,
  averaged: Variables | None,
) -> TrainState:
  """Of step 0.

  Raises:
    ValueError: A parameter is of whole numbers, which take no gradient.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(meta.unbox(params)):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      raise ValueError(
        f'{name} is {leaf.dtype}, which decodes and cannot be trained; set'
        " param_dtype to 'float32'."
      )
  zero = jnp.zeros((), jnp.int32)
  return TrainState(
    step=zero,
    num_skipped=zero,
    num_skipped_in_a_row=zero,
    seed=jnp.asarray(seed, jnp.uint32),
    params=params,
    collections=collections,
    opt_state=opt_state,
    averaged=averaged,
  )


def split_variables(variables: Variables) -> tuple[Any, Variables]:
  """(params, the other collections)."""
  others = {k: v for k, v in variables.items() if k != 'params'}
  return variables['params'], others


def averages_of(
  variables: Variables, *, decay: float | None
) -> Variables | None:
  """The average of nothing but `variables`, in memory of its own."""
  return None if decay is None else jax.tree.map(jnp.copy, variables)


def merge_updates(collections: Variables, updates: Variables) -> Variables:
  """`collections` with the new ones of a step in their places.

  Raises:
    ValueError: If an update is not of the structure that `init` made, for such
      a state could not be saved and restored.
  """
  merged = {**collections, **updates}
  if jax.tree.structure(merged) != jax.tree.structure(collections):
    raise ValueError(
      'The updates of a step must be whole collections, of the structure that'
      f' `init` made. Wanted: {jax.tree.structure(collections)}. Got:'
      f' {jax.tree.structure(merged)}.'
    )
  return merged


def advance(
  state: TrainState,
  *,
  finite: Bool[Array, ''],
  params: Any,
  collections: Any,
  opt_state: Any,
  averaged: Variables | None,
) -> TrainState:
  """The next state; where not `finite`, only step and counters move."""

  def keep_if_finite(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

  skipped = jnp.where(finite, 0, 1)
  return TrainState(
    step=state.step + 1,
    num_skipped=state.num_skipped + skipped,
    num_skipped_in_a_row=(state.num_skipped_in_a_row + skipped) * skipped,
    seed=state.seed,
    params=keep_if_finite(params, state.params),
    collections=keep_if_finite(collections, state.collections),
    opt_state=keep_if_finite(opt_state, state.opt_state),
    averaged=keep_if_finite(averaged, state.averaged),
  )


def keep_frozen(
  old: Variables, new: Variables, *, trained: tuple[str, ...] | None
) -> Variables:
  """`new`, but `old` in all that is not among the `trained` parameters."""
  if trained is None:
    return new
  moved = {name: new['params'][name] for name in trained}
  return {**old, 'params': {**old['params'], **moved}}


def moving_average(
  state: TrainState, variables: Variables, *, decay: float | None
) -> Variables | None:
  """The average after `variables` have been added to it.

  The decay rises as (1 + n) / (10 + n) with the number n of good steps up to
  `decay`, so that a short run does not publish its random start. Codebooks are
  averaged with the weights that feed them; counts and flags are copied.
  """
  if decay is None:
    return None
  num_good = (state.step - state.num_skipped).astype(jnp.float32)
  decay_now = jnp.minimum(decay, (1 + num_good) / (10 + num_good))

  def average(old: jax.Array, new: jax.Array) -> jax.Array:
    if not jnp.issubdtype(new.dtype, jnp.floating):
      return new
    # Less, not plus: what stays keeps its bits, those of -0.0 too.
    return old - (old - new) * (1 - decay_now).astype(new.dtype)

  return jax.tree.map(average, state.averaged, variables)


def all_finite(*trees: Any) -> Bool[Array, '']:
  """Whether every floating-point number in `trees` is finite."""
  leaves = [
    jnp.all(jnp.isfinite(leaf))
    for leaf in jax.tree.leaves(trees)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  return total(leaves) == len(leaves)


def total(scalars: Sequence[jax.Array]) -> Float[Array, '']:
  """The sum of many scalars, for many readers.

  A product with ones, for XLA on CPU keeps a product out of its fusions. A sum
  it computes anew inside every fusion that reads it, which are as many as there
  are parameters: the program then grows with the square of their number.
  """
  stacked = jnp.stack(scalars)
  stacked = stacked.astype(metrics.accumulation_dtype(stacked.dtype))
  # Highest: a TPU would round the scalars to bfloat16.
  return jnp.matmul(
    stacked, jnp.ones_like(stacked), precision=jax.lax.Precision.HIGHEST
  )


def _key(seed: jax.Array, *, stream: int) -> PRNGKey:
  return jax.random.fold_in(jax.random.key(seed), stream)
