# SPDX-License-Identifier: Apache-2.0
"""A stage that t5x trained, read back without t5x.

<model_dir>/
  stage_objective.json     the objective with the stage and the model's sizes
  config.gin               t5x's own
  checkpoint_<step>/state/ Orbax: the parameters under 'target', the optimizer
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle, config_json, text_file
from musiclm_jax.checkpoints import fingerprint as fingerprints
from musiclm_jax.stages.objective import StageObjective

OBJECTIVE_JSON = 'stage_objective.json'

# t5x's names.
_STEP = re.compile(r'checkpoint_(\d+)')
_STATE, _PARAMS = 'state', 'target'

_Path = str | os.PathLike[str]  # Buckets too, as in t5x.


def write_objective(model_dir: _Path, objective: StageObjective) -> None:
  """Keeps beside the checkpoints what they are checkpoints of."""
  # What tables began as is in the first checkpoint, and no JSON can hold it.
  objective = dataclasses.replace(objective, codebooks={})
  text_file.write(
    epath.Path(model_dir) / OBJECTIVE_JSON,
    json.dumps(config_json.to_json(objective), indent=2) + '\n',
  )


def read(model_dir: _Path, *, step: int | None = None) -> bundle.BundleContents:
  """What t5x trained, ready to publish.

  Args:
    model_dir: MODEL_DIR of the run of t5x.
    step: Of the checkpoint; the last if left out.

  Raises:
    ValueError: It is no such folder, or lacks that checkpoint.
  """
  model_dir = epath.Path(model_dir).expanduser().resolve()
  path = model_dir / OBJECTIVE_JSON
  if not path.is_file():
    raise ValueError(
      f'{model_dir} has no {OBJECTIVE_JSON}, which a run of t5x writes when it'
      ' begins; give its MODEL_DIR, and train with a file of gin/integrations/.'
    )
  objective = config_json.from_json(json.loads(path.read_text()))
  variables = jax.eval_shape(
    objective.init,
    jax.random.key(0),
    {
      batches.TOKENS: jax.ShapeDtypeStruct(
        (1, objective.model.layout.length), jnp.int32
      )
    },
  )
  params = _read_params(
    _checkpoint(model_dir, step), like=meta.unbox(variables)['params']
  )
  return objective.bundle({'params': params})


def _checkpoint(model_dir: epath.Path, step: int | None) -> epath.Path:
  steps = sorted(
    int(found[1])
    for path in model_dir.iterdir()
    if (found := _STEP.fullmatch(path.name))
  )
  if not steps or step not in (None, *steps):
    wanted = 'none' if step is None else f'not that of step {step}'
    raise ValueError(
      f'{model_dir} has checkpoints of the steps {steps}, {wanted}; train'
      ' longer, or give one of these.'
    )
  return model_dir / f'checkpoint_{steps[-1] if step is None else step}'


def _read_params(
  checkpoint: epath.Path, *, like: Mapping[str, Any]
) -> dict[str, Any]:
  """The parameters on the host, in the types of `like`."""
  # The handler itself: a Checkpointer would look for what t5x does not write.
  handler, state = ocp.PyTreeCheckpointHandler(), checkpoint / _STATE
  saved = handler.metadata(state).tree
  _require_same_shapes(like, saved[_PARAMS], checkpoint=checkpoint)
  to_host = jax.tree.map(
    lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype),
    like,
  )
  restored = handler.restore(
    state,
    args=ocp.args.PyTreeRestore(
      item={_PARAMS: like},
      restore_args={_PARAMS: to_host},
      partial_restore=True,
    ),
  )
  handler.close()
  return restored[_PARAMS]


def _require_same_shapes(
  like: Mapping[str, Any], saved: Mapping[str, Any], *, checkpoint: epath.Path
) -> None:
  wanted, found = fingerprints.flatten(like), fingerprints.flatten(saved)
  for name in sorted(wanted.keys() | found.keys()):
    shape, other = (
      tuple(leaves[name].shape) if name in leaves else 'absent'
      for leaves in (wanted, found)
    )
    if shape != other:
      raise ValueError(
        f'{name} is {shape} in the model of {OBJECTIVE_JSON} and {other} in'
        f' {checkpoint}; give the folder of one run, as it wrote it.'
      )
