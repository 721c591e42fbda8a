# SPDX-License-Identifier: Apache-2.0
"""Optimizers and learning-rate schedules, as plain functions for gin to call.

Each optimizer clips the gradient by its global norm first, if told to. A
schedule maps the number of updates made so far to a learning rate; a step that
was skipped makes no update, so it does not move the schedule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from musiclm_jax.training import state

Schedule = Callable[[Any], jax.Array]


def constant(*, learning_rate: float, warmup_steps: int = 0) -> Schedule:
  """Rises in a line over the warm-up, then stays."""
  return lambda count: learning_rate * _warmup(count, warmup_steps)


def inverse_square_root(*, learning_rate: float, warmup_steps: int) -> Schedule:
  """Rises in a line to `learning_rate`, then falls as 1 / √count.

  T5 (Raffel et al., 2020), section 3.1.2, has the same fall and holds the peak
  over the warm-up instead.
  """

  def schedule(count: Any) -> jax.Array:
    fall = jnp.sqrt(warmup_steps / jnp.maximum(count + 1, warmup_steps))
    return learning_rate * _warmup(count, warmup_steps) * fall

  return schedule


def cosine(
  *,
  learning_rate: float,
  num_steps: int,
  warmup_steps: int = 0,
  final_share: float = 0.0,
) -> Schedule:
  """Rises in a line, then falls along half a cosine.

  SGDR (Loshchilov and Hutter, 2017), equation 5, without restarts.

  Args:
    learning_rate: The peak.
    num_steps: Updates at whose end the fall is done, warm-up included.
    warmup_steps: Updates over which the rate rises.
    final_share: What is left of the peak at the end.
  """
  if num_steps <= warmup_steps:
    raise ValueError(
      f'A cosine over {num_steps} steps cannot follow a warm-up of'
      f' {warmup_steps}; num_steps counts both.'
    )

  def schedule(count: Any) -> jax.Array:
    done = (count - warmup_steps) / (num_steps - warmup_steps)
    fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
    share = final_share + (1 - final_share) * fall
    return learning_rate * _warmup(count, warmup_steps) * share

  return schedule


def adam(
  *,
  learning_rate: float | Schedule,
  betas: tuple[float, float] = (0.9, 0.999),
  epsilon: float = 1e-8,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Adam (Kingma and Ba, 2015)."""
  first, second = betas
  return _optimizer(
    optax.adam,
    learning_rate=learning_rate,
    clip_norm=clip_norm,
    b1=first,
    b2=second,
    eps=epsilon,
  )


def adamw(
  *,
  learning_rate: float | Schedule,
  betas: tuple[float, float] = (0.9, 0.999),
  epsilon: float = 1e-8,
  weight_decay: float = 0.01,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """AdamW (Loshchilov and Hutter, 2019); biases and gains do not decay."""
  first, second = betas
  return _optimizer(
    optax.adamw,
    learning_rate=learning_rate,
    clip_norm=clip_norm,
    b1=first,
    b2=second,
    eps=epsilon,
    weight_decay=weight_decay,
    mask=has_two_dimensions,
  )


def adafactor(
  *,
  learning_rate: float | Schedule,
  decay_rate: float = 0.8,
  multiply_by_parameter_scale: bool = True,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Adafactor (Shazeer and Stern, 2018), without momentum."""
  return _optimizer(
    optax.adafactor,
    learning_rate=learning_rate,
    clip_norm=clip_norm,
    decay_rate=decay_rate,
    multiply_by_parameter_scale=multiply_by_parameter_scale,
  )


def slowed(
  optimizer: optax.GradientTransformation,
  *,
  parts: Sequence[str],
  factor: float,
) -> optax.GradientTransformation:
  """Takes smaller steps with some parts of a model.

  Adam undoes a factor on the gradient, so it is on the update.

  Args:
    optimizer: Makes the updates.
    parts: Names at the top of the parameters.
    factor: Of their updates.
  """

  def check(params: Any) -> optax.EmptyState:
    if missing := sorted(set(parts) - set(params)):
      raise ValueError(
        f'{missing} are to learn slower, but the model has {sorted(params)}.'
      )
    return optax.EmptyState()

  def slow(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    del params
    return {
      name: jax.tree.map(lambda u: u * factor, part) if name in parts else part
      for name, part in updates.items()
    }, state

  return optax.chain(optimizer, optax.GradientTransformation(check, slow))


def has_two_dimensions(params: Any) -> Any:
  """True for what decays: no biases and no gains."""
  return jax.tree.map(lambda param: param.ndim > 1, params)


def learning_rate_of(opt_state: Any) -> jax.Array | None:
  """That of the last update; None of an optimizer that is not of this file."""
  return optax.tree.get(
    opt_state, 'learning_rate', filtering=lambda _, v: isinstance(v, jax.Array)
  )


def _optimizer(
  make: Callable[..., optax.GradientTransformation],
  *,
  learning_rate: float | Schedule,
  clip_norm: float | None,
  **constants: Any,
) -> optax.GradientTransformation:
  """`make(learning_rate, …)`, its rate kept in its state, for the logs."""
  others = set(inspect.signature(make).parameters) - {'learning_rate'}
  optimizer = optax.inject_hyperparams(make, static_args=others)(
    learning_rate=learning_rate, **constants
  )
  if clip_norm is None:
    return optimizer
  if clip_norm <= 0:
    raise ValueError(
      f'clip_norm is {clip_norm}; above 0, or None for no limit.'
    )
  return optax.chain(_clip_by_global_norm(clip_norm), optimizer)


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """As optax's, but for a norm that is computed once: see `state.total`."""

  def clip(gradients: Any, params: Any = None) -> Any:
    del params
    squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradients)]
    norm = jnp.sqrt(state.total(squares))
    scale = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)

  return optax.stateless(clip)


def _warmup(count: Any, warmup_steps: int) -> jax.Array:
  """1 / warmup_steps at the first update, 1 from the last of the warm-up on."""
  return jnp.minimum(1.0, (count + 1) / max(warmup_steps, 1))
