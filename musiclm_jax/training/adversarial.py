# SPDX-License-Identifier: Apache-2.0
"""One step of two players, with the forward passes shared.

`generate` and `judge` run once. Their pull-backs (`jax.vjp`) then run once for
each player that needs them: the discriminator's loss to its parameters, the
generator's loss through the judgement and the fake waveform to its own. What
neither player reads (the generator's gradient in the discriminator, say) is
never computed, for XLA removes it. Both players move at the same time, from
the same state. The losses are hinges or anything else: the objective's affair.
Parts of the generator that the objective does not train (`TrainsParts`) take no
gradient, and neither optimizer nor average touches them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import meta

from musiclm_jax.array_types import Batch, PRNGKey, Variables
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.training import state as train_state
from musiclm_jax.training.objective import (
  AdversarialObjective,
  Generated,
  trained_parts,
)
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import (
  TrainStep,
  divide_by_weight,
  rate_metrics,
  step_metrics,
)

GENERATOR = 'generator'
DISCRIMINATOR = 'discriminator'


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
  """An adversarial objective with all that is needed to train it.

  There are no microbatches here: codebook statistics are over the whole batch.

  Attributes:
    objective: Both players.
    generator_optimizer: From `musiclm_jax.training.optimizers`.
    discriminator_optimizer: Likewise.
    ema_decay: Of the moving average of the generator; `None` for none.
  """

  objective: AdversarialObjective
  generator_optimizer: optax.GradientTransformation
  discriminator_optimizer: optax.GradientTransformation
  ema_decay: float | None = None

  @property
  def trained_parts(self) -> tuple[str, ...] | None:
    """Of the generator."""
    return trained_parts(self.objective)

  def init(self, seed: int | jax.Array, batch: Batch) -> TrainState:
    players = self.objective.init(train_state.init_key(seed), batch)
    params, collections = _split_players(players)
    bare = meta.unbox(params)
    return train_state.first_state(
      seed,
      params=params,
      collections=collections,
      opt_state={
        GENERATOR: self.generator_optimizer.init(bare[GENERATOR]),
        DISCRIMINATOR: self.discriminator_optimizer.init(bare[DISCRIMINATOR]),
      },
      averaged=train_state.averages_of(
        players[GENERATOR], decay=self.ema_decay
      ),
    )

  def train_step(
    self, state: TrainState, batch: Batch
  ) -> tuple[TrainState, Mapping[str, WeightedMean]]:
    return make_adversarial_train_step(
      self.objective,
      generator_optimizer=self.generator_optimizer,
      discriminator_optimizer=self.discriminator_optimizer,
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
    return {'params': state.params[GENERATOR], **state.collections[GENERATOR]}

  def with_variables(
    self, state: TrainState, variables: Variables
  ) -> TrainState:
    """The generator's, for a bundle has no discriminator."""
    params, collections = train_state.split_variables(variables)
    return state.replace(
      params={**state.params, GENERATOR: params},
      collections={GENERATOR: collections},
      averaged=train_state.averages_of(variables, decay=self.ema_decay),
    )


def make_adversarial_train_step(
  objective: AdversarialObjective,
  *,
  generator_optimizer: optax.GradientTransformation,
  discriminator_optimizer: optax.GradientTransformation,
  ema_decay: float | None = None,
) -> TrainStep:
  """Makes the pure step of two players.

  Args:
    objective: Both players and their losses.
    generator_optimizer: Moves the generator.
    discriminator_optimizer: Moves the discriminator.
    ema_decay: Of the moving average of the generator; `None` for none.

  Returns:
    A function of (state, batch). If either loss, either gradient or the new
    statistics are not finite, neither player moves.
  """

  def train_step(
    state: TrainState, batch: Batch
  ) -> tuple[TrainState, Mapping[str, WeightedMean]]:
    played = play(objective, state, batch, state.step_key())
    statistics = train_state.merge_updates(
      state.collections[GENERATOR], meta.unbox(played.updates)
    )
    finite = train_state.all_finite(
      played.losses(), played.gradients, played.updates
    )
    params, opt_state = {}, {}
    for player, optimizer in (
      (GENERATOR, generator_optimizer),
      (DISCRIMINATOR, discriminator_optimizer),
    ):
      updates, opt_state[player] = optimizer.update(
        played.gradients[player], state.opt_state[player], state.params[player]
      )
      params[player] = optax.apply_updates(state.params[player], updates)
    generator = train_state.keep_frozen(
      {'params': state.params[GENERATOR], **state.collections[GENERATOR]},
      {'params': params[GENERATOR], **statistics},
      trained=trained_parts(objective),
    )
    params[GENERATOR], statistics = train_state.split_variables(generator)
    averaged = train_state.moving_average(state, generator, decay=ema_decay)
    rates = {
      f'{player}/{name}': rate
      for player in opt_state
      for name, rate in rate_metrics(opt_state[player]).items()
    }
    metrics = step_metrics({**_metrics_of(played), **rates}, finite=finite)
    state = train_state.advance(
      state,
      finite=finite,
      params=params,
      collections={GENERATOR: statistics},
      opt_state=opt_state,
      averaged=averaged,
    )
    return state, metrics

  return train_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Played:
  """Both players' losses over one batch, and where these pull them.

  Attributes:
    generator: The generator's loss.
    discriminator: The discriminator's loss.
    gradients: Of the mean of its own loss, for each player's parameters.
    metrics: Figures of the generator's forward pass.
    updates: New statistics of the generator.
  """

  generator: LossOutput
  discriminator: LossOutput
  gradients: Mapping[str, Any]
  metrics: Mapping[str, WeightedMean]
  updates: Variables

  def losses(self) -> tuple[WeightedMean, WeightedMean]:
    return self.generator.loss, self.discriminator.loss


def play(
  objective: AdversarialObjective,
  state: TrainState,
  batch: Batch,
  key: PRNGKey,
) -> Played:
  """One forward pass of each player, and both gradients."""

  def generate(params: Any) -> Generated:
    variables = {'params': params, **state.collections[GENERATOR]}
    variables = train_state.keep_frozen(
      jax.lax.stop_gradient(variables),
      variables,
      trained=trained_parts(objective),
    )
    return objective.generate(variables, batch, key)

  def judge(params: Any, fake_waveform: jax.Array) -> Any:
    return objective.judge(params, batch, fake_waveform)

  generated, pull_back_generate = jax.vjp(generate, state.params[GENERATOR])
  judged, pull_back_judge = jax.vjp(
    judge, state.params[DISCRIMINATOR], generated.waveform
  )

  discriminator, (judged_cotangent,) = _loss_and_cotangents(
    lambda judged: objective.discriminator_loss(judged, state.step), judged
  )
  discriminator_gradient, _ = pull_back_judge(judged_cotangent)

  generator, (generated_cotangent, judged_cotangent) = _loss_and_cotangents(
    lambda generated, judged: objective.generator_loss(
      generated, judged, state.step
    ),
    generated,
    judged,
  )
  _, through_judge = pull_back_judge(judged_cotangent)
  (generator_gradient,) = pull_back_generate(
    dataclasses.replace(
      generated_cotangent,
      waveform=generated_cotangent.waveform + through_judge,
    )
  )
  return Played(
    generator=generator,
    discriminator=discriminator,
    gradients={
      GENERATOR: divide_by_weight(generator_gradient, generator.loss),
      DISCRIMINATOR: divide_by_weight(
        discriminator_gradient, discriminator.loss
      ),
    },
    metrics=generated.metrics,
    updates=generated.updates,
  )


def _loss_and_cotangents(
  loss: Any, *inputs: Any
) -> tuple[LossOutput, tuple[Any, ...]]:
  """A loss, and the gradient of its total for each of the `inputs`."""

  def total(*inputs: Any) -> tuple[jax.Array, LossOutput]:
    output = loss(*inputs)
    return output.loss.total, output

  value, pull_back, output = jax.vjp(total, *inputs, has_aux=True)
  return output, pull_back(jnp.ones_like(value))


def _metrics_of(played: Played) -> dict[str, WeightedMean]:
  norms = {
    f'{player}/gradient_norm': WeightedMean.of(optax.tree.norm(gradient))
    for player, gradient in played.gradients.items()
  }
  return {
    # As in the plain step: what the published weights descend.
    'loss': played.generator.loss,
    'discriminator/loss': played.discriminator.loss,
    **norms,
    **played.metrics,
    **played.generator.metrics,
    **played.discriminator.metrics,
  }


def _split_players(
  players: Mapping[str, Variables],
) -> tuple[dict[str, Any], dict[str, Any]]:
  generator, statistics = train_state.split_variables(players[GENERATOR])
  discriminator, others = train_state.split_variables(players[DISCRIMINATOR])
  if others:
    raise ValueError(
      f'The discriminator has the collections {sorted(others)}; only the'
      ' generator may have others than params.'
    )
  params = {GENERATOR: generator, DISCRIMINATOR: discriminator}
  return params, {GENERATOR: statistics}
