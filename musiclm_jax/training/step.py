# SPDX-License-Identifier: Apache-2.0
"""One step of an objective with one loss: (state, batch) to (state, metrics).

Pure and free of meshes; `partitioning` puts shardings and donation on outside.
Microbatches sum numerators and weights apart and divide once, so they equal
the whole batch whatever the masks. The adversarial step is in `adversarial`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import meta

from musiclm_jax.array_types import Array, Batch, PRNGKey, Variables
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.training import optimizers
from musiclm_jax.training import state as train_state
from musiclm_jax.training.objective import Objective, trained_parts
from musiclm_jax.training.state import TrainState

TrainStep = Callable[
  [TrainState, Batch], tuple[TrainState, Mapping[str, WeightedMean]]
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """An objective with all that is needed to descend it.

  Attributes:
    objective: What is minimised.
    optimizer: From `musiclm_jax.training.optimizers`, clipping included.
    num_microbatches: Parts a batch is taken in, one after another, to save
      memory; it divides the batch.
    ema_decay: Of the moving average of the variables; `None` for none.
  """

  objective: Objective
  optimizer: optax.GradientTransformation
  num_microbatches: int = 1
  ema_decay: float | None = None

  def __post_init__(self):
    _check_microbatches(self.objective, self.num_microbatches)
    if (parts := trained_parts(self.objective)) is not None:
      raise ValueError(
        f'{type(self.objective).__name__} trains {", ".join(parts)} alone, and'
        ' this step all there is; only AdversarialTraining leaves parts as they'
        ' are.'
      )

  def init(self, seed: int | jax.Array, batch: Batch) -> TrainState:
    variables = self.objective.init(train_state.init_key(seed), batch)
    params, collections = train_state.split_variables(variables)
    return train_state.first_state(
      seed,
      params=params,
      collections=collections,
      opt_state=self.optimizer.init(meta.unbox(params)),
      averaged=train_state.averages_of(variables, decay=self.ema_decay),
    )

  def train_step(
    self, state: TrainState, batch: Batch
  ) -> tuple[TrainState, Mapping[str, WeightedMean]]:
    return make_train_step(
      self.objective,
      self.optimizer,
      num_microbatches=self.num_microbatches,
      ema_decay=self.ema_decay,
    )(state, batch)

  def evaluate(self, state: TrainState, batch: Batch) -> Evaluation:
    variables = self.published_variables(state)
    return self.objective.evaluate(variables, batch, state.evaluation_key())

  def bundle(self, state: TrainState) -> Any:
    return self.objective.bundle(self.published_variables(state))

  def published_variables(self, state: TrainState) -> Variables:
    if state.averaged is not None:
      return state.averaged
    return {'params': state.params, **state.collections}

  def with_variables(
    self, state: TrainState, variables: Variables
  ) -> TrainState:
    params, collections = train_state.split_variables(variables)
    return state.replace(
      params=params,
      collections=collections,
      averaged=train_state.averages_of(variables, decay=self.ema_decay),
    )


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  num_microbatches: int = 1,
  ema_decay: float | None = None,
) -> TrainStep:
  """Makes the pure step of a plain objective.

  Args:
    objective: What is minimised.
    optimizer: How.
    num_microbatches: Parts a batch is taken in, one after another.
    ema_decay: Of the moving average of the variables; `None` for none.

  Returns:
    A function of (state, batch). A step whose loss, gradient or new statistics
    are not finite changes nothing but the counters of the state, its metrics
    have weight 0, and 'skipped' is 1.
  """
  _check_microbatches(objective, num_microbatches)

  def train_step(
    state: TrainState, batch: Batch
  ) -> tuple[TrainState, Mapping[str, WeightedMean]]:
    output, gradients = _loss_and_gradients(
      objective, state, batch, num_microbatches=num_microbatches
    )
    collections = train_state.merge_updates(
      state.collections, meta.unbox(output.updates)
    )
    finite = train_state.all_finite(output.loss, gradients, output.updates)
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    averaged = train_state.moving_average(
      state, {'params': params, **collections}, decay=ema_decay
    )
    metrics = step_metrics(
      {
        'loss': output.loss,
        'gradient_norm': WeightedMean.of(optax.tree.norm(gradients)),
        **rate_metrics(opt_state),
        **output.metrics,
      },
      finite=finite,
    )
    state = train_state.advance(
      state,
      finite=finite,
      params=params,
      collections=collections,
      opt_state=opt_state,
      averaged=averaged,
    )
    return state, metrics

  return train_step


def rate_metrics(opt_state: Any) -> dict[str, WeightedMean]:
  """The learning rate of the update; nothing if the optimizer keeps none."""
  rate = optimizers.learning_rate_of(opt_state)
  return {} if rate is None else {'learning_rate': WeightedMean.of(rate)}


def step_metrics(
  metrics: Mapping[str, WeightedMean], *, finite: jax.Array
) -> dict[str, WeightedMean]:
  """`metrics`, emptied if the step was skipped, and whether it was."""
  kept = jax.tree.map(lambda x: jnp.where(finite, x, 0), dict(metrics))
  return {**kept, 'skipped': WeightedMean.of(jnp.where(finite, 0.0, 1.0))}


def _check_microbatches(objective: Objective, num_microbatches: int) -> None:
  if num_microbatches < 1:
    raise ValueError(f'num_microbatches is {num_microbatches}; 1 or more.')
  if num_microbatches > 1 and objective.batch_is_coupled:
    raise ValueError(
      f'{type(objective).__name__} couples the examples of a batch, so'
      f' {num_microbatches} microbatches would train another loss; set'
      ' num_microbatches to 1 and save memory by remat or by more devices.'
    )


def _loss_and_gradients(
  objective: Objective,
  state: TrainState,
  batch: Batch,
  *,
  num_microbatches: int,
) -> tuple[LossOutput, Any]:
  """The loss over the whole batch, and the gradient of its mean."""

  def total_loss(
    params: Any, batch: Batch, key: PRNGKey
  ) -> tuple[jax.Array, LossOutput]:
    variables = {'params': params, **state.collections}
    output = objective.loss(variables, batch, key)
    return output.loss.total, output

  def gradients_of(batch: Batch, key: PRNGKey) -> tuple[LossOutput, Any]:
    gradients, output = jax.grad(total_loss, has_aux=True)(
      state.params, batch, key
    )
    return output, gradients

  if num_microbatches == 1:
    output, gradients = gradients_of(batch, state.step_key())
  else:
    output, gradients = _sum_over_microbatches(
      gradients_of, batch, state.step_key(), num_microbatches=num_microbatches
    )
  return output, divide_by_weight(gradients, output.loss)


def divide_by_weight(gradients: Any, loss: WeightedMean) -> Any:
  """Turns the gradient of a sum into that of the mean."""
  weight = jnp.where(loss.weight == 0, 1, loss.weight)
  return jax.tree.map(lambda g: g / weight.astype(g.dtype), gradients)


def _sum_over_microbatches(
  gradients_of: Callable[[Batch, PRNGKey], tuple[LossOutput, Any]],
  batch: Batch,
  key: PRNGKey,
  *,
  num_microbatches: int,
) -> tuple[LossOutput, Any]:
  """Losses, metrics and gradients, summed by a scan over the microbatches."""

  def split(array: Array) -> Array:
    rows = array.shape[0]
    if rows % num_microbatches:
      raise ValueError(
        f'A batch of {rows} rows does not divide into {num_microbatches}'
        ' microbatches; choose a divisor.'
      )
    # Row r goes to microbatch r % n: every device keeps the rows it has.
    shape = (rows // num_microbatches, num_microbatches, *array.shape[1:])
    return array.reshape(shape).swapaxes(0, 1)

  parts = {name: split(array) for name, array in batch.items()}

  def gradients_of_part(index: jax.Array, part: Batch) -> Any:
    output, gradients = gradients_of(part, jax.random.fold_in(key, index))
    if output.updates:
      raise ValueError(
        f'The loss updates {sorted(output.updates)}, statistics over the whole'
        f' batch, so it cannot be taken in {num_microbatches} microbatches;'
        ' set num_microbatches to 1.'
      )
    return output, gradients

  def add(sums: Any, scanned: Any) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, sums, gradients_of_part(*scanned)), None

  scanned = (jnp.arange(num_microbatches), parts)
  first = jax.tree.map(lambda array: array[0], scanned)
  zeros = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype),
    jax.eval_shape(gradients_of_part, *first),
  )
  sums, _ = jax.lax.scan(add, zeros, scanned)
  return sums
