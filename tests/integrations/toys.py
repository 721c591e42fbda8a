# SPDX-License-Identifier: Apache-2.0
"""A stage, its rows as t5x feeds them, and a run's folder without t5x."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from musiclm_jax import batches
from musiclm_jax.integrations import t5x_checkpoint
from musiclm_jax.stages.objective import StageObjective
from tests.stages import toys

OBJECTIVE = StageObjective(
  model=toys.config(scan_layers=True, dropout_rate=0.0)
)
LAYOUT = OBJECTIVE.model.layout
PARAMS = toys.params(OBJECTIVE.model)


def rows(num_rows, *, seed=0):
  return {batches.TOKENS: LAYOUT.pack(toys.codes(num_rows, seed=seed))}


def write_run(directory, *, steps=(3, 11)):
  """What t5x leaves; the last step has PARAMS, those before twice them."""
  directory.mkdir()
  t5x_checkpoint.write_objective(directory, OBJECTIVE)
  (directory / 'config.gin').write_text('# Of t5x.\n')
  for step in steps:
    twice = step != max(steps)
    params = jax.tree.map(np.add, PARAMS, PARAMS) if twice else PARAMS
    state = {'step': np.array([step]), 'param_states': {'0': PARAMS}}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      checkpointer.save(
        directory / f'checkpoint_{step}' / 'state',
        args=ocp.args.PyTreeSave({'target': params, 'state': state}),
      )
  return directory
