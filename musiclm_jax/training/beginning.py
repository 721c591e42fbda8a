# SPDX-License-Identifier: Apache-2.0
"""How a run begins: by its last checkpoint, by a bundle, or from scratch.

What would keep it from being published is refused here, before anything is
compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from musiclm_jax.array_types import Batch
from musiclm_jax.checkpoints import bundle, config_json
from musiclm_jax.checkpoints import warm_start as warm_starts
from musiclm_jax.checkpoints.buckets import Folder
from musiclm_jax.checkpoints.manager import CheckpointManager, resume_or_start
from musiclm_jax.training import origin
from musiclm_jax.training.hooks import Run
from musiclm_jax.training.metrics_writer import MetricsWriter
from musiclm_jax.training.objective import trained_parts
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.state import Trainable, TrainState


def begin(
  manager: CheckpointManager,
  *,
  directory: Folder,
  training: Trainable,
  partitioner: Partitioner,
  batch: Batch,
  seed: int,
  warm_start: str | None,
  num_steps: int,
  gin_config: Callable[[], str],
) -> Run:
  """The run before its next step, its writer open.

  Args:
    manager: Of its checkpoints.
    directory: Of the run.
    training: What is trained.
    partitioner: The mesh.
    batch: The next one.
    seed: Of a new run; one that goes on was begun with the same.
    warm_start: A bundle whose weights a new run begins with.
    num_steps: Where the run ends.
    gin_config: Gives the operative config.

  Raises:
    ValueError: The run was begun with another seed or on other codes, is to
      keep codes that no bundle makes, or could not be published.
  """
  start = manager.latest_step or 0
  abstract = partitioner.abstract_state(training, seed=seed, batch=batch)
  derived_from = origin.derived_from(
    directory,
    parts=trained_parts(training),
    config=_published_config(training, abstract),
    warm_start=warm_start,
    resumes=bool(start),
  )
  state = _first_state(
    manager,
    training=training,
    partitioner=partitioner,
    abstract_state=abstract,
    batch=batch,
    seed=seed,
    warm_start=warm_start,
  )
  return Run(
    model_dir=directory,
    training=training,
    partitioner=partitioner,
    writer=MetricsWriter(
      directory / 'metrics',
      resumed_step=start,
      active=jax.process_index() == 0,
    ),
    gin_config=gin_config,
    num_steps=num_steps,
    step=start,
    state=state,
    derived_from=derived_from,
  )


def _published_config(
  training: Trainable, abstract_state: TrainState
) -> Mapping[str, Any]:
  """As JSON; raises now, not when the run ends, if no bundle can hold it."""
  configs = []

  def look(state: TrainState) -> None:
    configs.append(config_json.to_json(training.bundle(state).config))

  jax.eval_shape(look, abstract_state)
  return configs[0]


def _first_state(
  manager: CheckpointManager,
  *,
  training: Trainable,
  partitioner: Partitioner,
  abstract_state: TrainState,
  batch: Batch,
  seed: int,
  warm_start: str | None,
) -> TrainState:
  """The state to go on from, in place on the devices."""

  def scratch() -> TrainState:
    return partitioner.first_state(training, seed=seed, batch=batch)

  def warm() -> TrainState:
    loaded = bundle.load(warm_start)
    origin.require_same_of_bundle(
      warm_start, bundle=loaded.trained_on, trained_on=origin.of(training)
    )
    state = scratch()
    started = warm_starts.from_bundle(
      training.published_variables(state), bundle=loaded
    )
    if (parts := trained_parts(training)) is not None:
      origin.require_codes_kept(
        started,
        bundle=loaded,
        contents=training.bundle(state),
        parts=parts,
      )
    return training.with_variables(state, started.variables)

  state = resume_or_start(
    manager,
    abstract_state=abstract_state,
    warm_start=None if warm_start is None else warm,
    scratch=scratch,
  ).state
  if int(state.seed) != seed:
    raise ValueError(
      f'The run was begun with seed {int(state.seed)} and cannot go on with'
      f' seed {seed}; give that seed, or another model_dir.'
    )
  return state
