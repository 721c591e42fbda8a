# SPDX-License-Identifier: Apache-2.0
"""A stage as a t5x model, so that `python -m t5x.train` trains it.

t5x: Roberts et al., "Scaling Up Models and Data with t5x and seqio" (2022). It
brings trainer, partitioner and checkpoints; rows, model, loss and figures are
those of our own trainer, through the same objective. Its mesh axes are 'data'
and 'model', and its standard rules name every axis of a stage.

Shapes: tokens [batch, length], codes [batch, frames, levels] of the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import clu.metrics
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.core import meta
from flax.linen import partitioning as flax_partitioning
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float
from t5x import gin_utils, models, optimizers, partitioning, train_state

from musiclm_jax import batches
from musiclm_jax.array_types import Batch, Codes, PRNGKey, Variables
from musiclm_jax.inference import decoding, sampling
from musiclm_jax.integrations import t5x_checkpoint
from musiclm_jax.metrics import LossOutput
from musiclm_jax.stages import lm
from musiclm_jax.stages.objective import StageObjective

_Losses = tuple[Float[Array, ''], dict[str, clu.metrics.Metric]]


class StageModel(models.BaseModel):
  """A stage's objective, as t5x's trainer wants it.

  A batch has whole rows, `batches.TOKENS`.
  """

  def __init__(
    self,
    objective: StageObjective,
    *,
    optimizer_def: optimizers.OptimizerDef,
    feature_converter_cls: Callable[..., Any],
    loss_normalizing_factor: float | None = None,
    sampler: sampling.Sampler = sampling.Categorical(),  # noqa: B008
  ):
    """Holds an objective and what t5x asks a model for.

    Args:
      objective: What is trained, and how.
      optimizer_def: t5x's wrapping of an optimizer.
      feature_converter_cls: Makes the SeqIO converter from codes to rows.
      loss_normalizing_factor: What the summed loss is divided by. None for the
        codes of the batch, as in our trainer; with microbatches, whose
        gradients t5x adds up, a constant.
      sampler: Logits to codes, where t5x predicts with a key.
    """
    super().__init__(optimizer_def=optimizer_def)
    self.objective = objective
    self.FEATURE_CONVERTER_CLS = feature_converter_cls
    self._loss_normalizing_factor = loss_normalizing_factor
    self._sampler = sampler

  def get_initial_variables(
    self,
    rng: PRNGKey,
    input_shapes: Mapping[str, tuple[int, ...]],
    input_types: Mapping[str, Any] | None = None,
  ) -> dict[str, Any]:
    """Parameters and `params_axes`, from one row; the types are always ours."""
    del input_types
    shape = (1, *input_shapes[batches.TOKENS][1:])
    row = {batches.TOKENS: jnp.zeros(shape, jnp.int32)}
    return with_params_axes(self.objective.init(rng, row))

  def loss_fn(
    self, params: Any, batch: Batch, dropout_rng: PRNGKey | None
  ) -> _Losses:
    """The loss and its figures; without a key nothing is drawn."""
    output = self.objective.loss({'params': params}, batch, dropout_rng)
    factor = self._loss_normalizing_factor
    loss = output.loss.mean if factor is None else output.loss.total / factor
    return loss, _metrics(output)

  def predict_batch_with_aux(
    self, params: Any, batch: Batch, rng: PRNGKey | None = None
  ) -> tuple[Codes, dict[str, Any]]:
    """Codes of the output given the inputs of the rows; likeliest if no key."""
    layout = self.objective.model.layout
    config, params = lm.to_decode(self.objective.model, params)
    tokens = jnp.asarray(batch[batches.TOKENS])
    key = jax.random.key(0) if rng is None else jax.random.wrap_key_data(rng)
    rows = decoding.decode_rows(
      params,
      tokens.at[:, layout.output.positions].set(layout.pad_id),
      keys=jax.random.split(key, len(tokens)),
      config=config,
      sampler=sampling.greedy if rng is None else self._sampler,
    )
    return layout.unpack(rows), {}

  def score_batch(
    self, params: Any, batch: Batch, return_intermediates: bool = False
  ) -> Float[Array, ' batch']:
    """Natural logarithms of the probability of each row's output."""
    if return_intermediates:
      raise ValueError('A stage keeps no intermediates; ask for scores alone.')
    config, tokens = self.objective.model, jnp.asarray(batch[batches.TOKENS])
    codes = config.layout.unpack(tokens)
    logits = lm.StageLM(config).apply({'params': params}, tokens)
    log_p = jnp.take_along_axis(
      jax.nn.log_softmax(logits, axis=-1),
      jnp.maximum(codes, 0)[..., None],
      axis=-1,
    )
    return jnp.sum(log_p[..., 0], axis=(1, 2), where=codes >= 0)


class StagePartitioner(partitioning.PjitPartitioner):
  """t5x's, but a dimension that the mesh does not divide stays whole.

  The rows of an input table are one: codes, and a few special ids.
  """

  def get_mesh_axes(
    self, state: train_state.TrainState
  ) -> train_state.TrainState:
    mesh_axes = super().get_mesh_axes(state)
    specs, leaves = (
      traverse_util.flatten_dict(tree.state_dict(), keep_empty_nodes=True)
      for tree in (mesh_axes, state)
    )
    return mesh_axes.restore_state(
      traverse_util.unflatten_dict(
        {
          path: self._divided(spec, leaves[path])
          for path, spec in specs.items()
        }
      )
    )

  def _divided(self, spec: Any, leaf: Any) -> Any:
    if not isinstance(spec, PartitionSpec):
      return spec  # Of a scalar, or of nothing.
    return PartitionSpec(
      *(
        target if size % self._num_parts(target) == 0 else None
        for target, size in zip(spec, leaf.shape)
      )
    )

  def _num_parts(self, target: str | tuple[str, ...] | None) -> int:
    names = (target,) if isinstance(target, str) else target or ()
    return math.prod(self.mesh.shape[name] for name in names)


def with_params_axes(variables: Variables) -> dict[str, Any]:
  """Parameters without boxes, and the boxes' axes as t5x reads them."""
  boxes = traverse_util.flatten_dict(variables['params'])
  names = {
    (*path[:-1], f'{path[-1]}_axes'): flax_partitioning.AxisMetadata(
      PartitionSpec(*box.names)
    )
    for path, box in boxes.items()
  }
  return {
    'params': meta.unbox(variables['params']),
    'params_axes': traverse_util.unflatten_dict(names),
  }


def summarize_config(
  model_dir: str, summary_writer: Any, step: int, *, objective: StageObjective
) -> None:
  """Writes t5x's `config.gin`, and what `t5x_checkpoint.read` needs."""
  gin_utils.summarize_gin_config(model_dir, summary_writer, step)
  if jax.process_index() == 0:
    t5x_checkpoint.write_objective(model_dir, objective)


def _metrics(output: LossOutput) -> dict[str, clu.metrics.Metric]:
  return {
    name: clu.metrics.Average(total=figure.total, count=figure.weight)
    for name, figure in {'loss': output.loss, **output.metrics}.items()
  }
