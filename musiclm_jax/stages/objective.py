# SPDX-License-Identifier: Apache-2.0
"""How a stage is trained: predict each code of its output from what precedes.

MusicLM (Agostinelli et al., 2023), section 3.2, and AudioLM (Borsos et al.,
2022), section III-C: the loss is taken at the output alone.

The papers' softmax runs over the vocabulary; ours runs over the codes that are
legal at the position unless told otherwise. Which level comes next is a matter
of position, never of chance: a decoder masks all others, so what a model learns
about them is lost, and bits per code are the same quantity for a stage of one
level and of twelve. It also costs 1 / levels of the logits.

z-loss, 1e-4 log² Z: PaLM (Chowdhery et al., 2022), section 5; ours for this
model. Classifier-free guidance: Ho and Salimans (2021), section 3.2; conditions
are dropped together, a row at a time.

Shapes: batch, frames and levels of the output, codes = what a softmax is over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax import batches
from musiclm_jax.array_types import Batch, PRNGKey, Tokens, Variables
from musiclm_jax.checkpoints import bundle
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.stages import codebooks, lm
from musiclm_jax.stages.layout import StageLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageObjective:
  """Trains the language model of one stage.

  A batch has, for each stream of the stage, `batches.codes_key(name)` and, if
  clips may be shorter than the window, `batches.frame_mask_key(name)`; or the
  whole rows that these make, `batches.TOKENS`.

  Attributes:
    model: Stage and sizes.
    softmax_over: 'legal' for the codes of the position's own level, 'vocabulary'
      for all codes of the stage.
    z_loss_weight: Of the squared logarithm of the softmax's normalizer.
    dropped_streams: Inputs that guidance works on, such as ('mulan',).
    drop_rate: Share of the training rows in which these are NULL.
    codebooks: By stream, [levels, codes, dim]: what the tables of a new model
      begin as (`codebooks.start_tables`).
  """

  model: lm.StageLMConfig
  softmax_over: str = 'legal'
  z_loss_weight: float = 1e-4
  dropped_streams: tuple[str, ...] = ()
  drop_rate: float = 0.0
  codebooks: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, hash=False
  )

  batch_is_coupled = False

  def __post_init__(self):
    # gin hands lists over.
    object.__setattr__(self, 'dropped_streams', tuple(self.dropped_streams))
    if self.softmax_over not in ('legal', 'vocabulary'):
      raise ValueError(
        f"softmax_over is {self.softmax_over!r}; choose 'legal' or"
        " 'vocabulary'."
      )
    if not 0 <= self.drop_rate < 1:
      raise ValueError(f'drop_rate is {self.drop_rate}, not within [0, 1).')
    if bool(self.dropped_streams) != bool(self.drop_rate):
      raise ValueError(
        f'Inputs {self.dropped_streams} are dropped at a rate of'
        f' {self.drop_rate}; set both dropped_streams and drop_rate, or'
        ' neither.'
      )

  def init(self, key: PRNGKey, batch: Batch) -> Variables:
    variables = self._module.init(key, self._tokens(batch))
    if not self.codebooks:
      return variables
    params = codebooks.start_tables(
      variables['params'],
      layout=self._layout,
      codebooks=self.codebooks,
      key=jax.random.fold_in(key, 1),
    )
    return {**variables, 'params': params}

  def loss(
    self, variables: Variables, batch: Batch, key: PRNGKey | None
  ) -> LossOutput:
    """As the protocol has it; without a key nothing is dropped."""
    tokens = self._tokens(batch)
    if key is None:
      return self._scores(variables, tokens, tokens)
    drop_key, dropout_key = jax.random.split(key)
    inputs = tokens
    if self.drop_rate:
      inputs = self._layout.drop_inputs(
        tokens,
        streams=self.dropped_streams,
        dropped=jax.random.bernoulli(
          drop_key, self.drop_rate, (tokens.shape[0],)
        ),
      )
    return self._scores(
      variables, inputs, tokens, rngs={'dropout': dropout_key}
    )

  def evaluate(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    del key  # Nothing is drawn.
    return Evaluation(metrics=self.loss(variables, batch, None).metrics)

  @property
  def trained_on(self) -> dict[str, str]:
    """Fingerprint of what makes each stream's codes, where it has one."""
    return {
      name: stream.fingerprint
      for name, stream in self.model.spec.streams.items()
      if stream.fingerprint is not None
    }

  def bundle(self, variables: Variables) -> bundle.BundleContents:
    """Separate layers, ready to decode, however they were trained."""
    config, params = lm.to_decode(self.model, meta.unbox(variables)['params'])
    return bundle.BundleContents(
      kind='stage',
      config=config,
      weights={'params': params},
      # The codes that it predicts are made by a codec, not by it.
      stream_out=None,
      streams_in=tuple(self.model.spec.streams.values()),
      trained_on=self.trained_on,
    )

  @property
  def _module(self) -> lm.StageLM:
    return lm.StageLM(self.model)

  @property
  def _layout(self) -> StageLayout:
    return self.model.layout

  def _tokens(self, batch: Batch) -> Tokens:
    """Whole rows: the batch's own, or from its codes and masks."""
    if batches.TOKENS in batch:
      return jnp.asarray(batch[batches.TOKENS])
    streams = self.model.spec.streams
    wanted = {name: batches.codes_key(name) for name in streams}
    masks = {name: batches.frame_mask_key(name) for name in streams}
    if missing := sorted(set(wanted.values()) - set(batch)):
      raise ValueError(
        f'Stage {self.model.spec.name!r} is trained on {sorted(wanted.values())}'
        f' and the batch lacks {missing}; it has {sorted(batch)}. Read a corpus'
        ' that was tokenized with every stream of the stage.'
      )
    return self._layout.pack(
      {name: jnp.asarray(batch[key]) for name, key in wanted.items()},
      frame_masks={
        name: jnp.asarray(batch[key])
        for name, key in masks.items()
        if key in batch
      },
    )

  def _scores(
    self,
    variables: Variables,
    inputs: Tokens,
    targets: Tokens,
    *,
    rngs: dict[str, PRNGKey] | None = None,
  ) -> LossOutput:
    """Loss and figures of `targets`, given `inputs` of the same rows."""
    layout, output = self._layout, self._layout.output
    shape = (targets.shape[0], output.num_frames, output.take.count)
    mask = layout.loss_mask(targets)[:, output.positions].reshape(shape)
    if self.softmax_over == 'legal':
      logits = self._module.apply(variables, inputs, rngs=rngs)
      # Where there is no code any will do: the mask is False.
      wanted = jnp.maximum(layout.unpack(targets), 0)
    else:
      logits = self._module.apply(
        variables, inputs, rngs=rngs, method=lm.StageLM.vocabulary_logits
      )
      wanted = jnp.where(mask, targets[:, output.positions].reshape(shape), 0)
    nats, log_z = _cross_entropy(logits, wanted)
    loss = WeightedMean.of(nats + self.z_loss_weight * jnp.square(log_z), mask)
    is_right = jnp.argmax(logits, axis=-1) == wanted
    return LossOutput(
      loss=loss,
      metrics={
        **self._figures('bits_per_code', nats / math.log(2), mask),
        **self._figures('accuracy', is_right.astype(nats.dtype), mask),
      },
    )

  def _figures(
    self,
    name: str,
    values: Float[Array, 'batch frames levels'],
    mask: Bool[Array, 'batch frames levels'],
  ) -> dict[str, WeightedMean]:
    """Of the output stream, and of each of its levels."""
    take = self._layout.output.take
    prefix = f'stage/{self.model.spec.name}/{name}'
    figures: dict[str, Any] = {
      f'{prefix}/{take.stream.name}': WeightedMean.of(values, mask)
    }
    for index, level in enumerate(take.levels):
      figures[f'{prefix}/level_{level + 1}'] = WeightedMean.of(
        values[:, :, index], mask[:, :, index]
      )
    return figures


def _cross_entropy(
  logits: Float[Array, 'batch frames levels codes'],
  wanted: Int[Array, 'batch frames levels'],
) -> tuple[
  Float[Array, 'batch frames levels'], Float[Array, 'batch frames levels']
]:
  """(-log p(wanted), log Z), of logits that are at least float32."""
  log_z = jax.nn.logsumexp(logits, axis=-1)
  of_wanted = jnp.take_along_axis(logits, wanted[..., None], axis=-1)[..., 0]
  return log_z - of_wanted, log_z
