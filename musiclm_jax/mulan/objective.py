# SPDX-License-Identifier: Apache-2.0
"""How MuLan is trained: pairs of audio and text among a large batch of others.

MuLan (Huang et al., 2022), section 3.2. The loss is exact over the global
batch, of thousands of pairs, in bounded memory: the towers take some rows at a
time and are computed again in the backward pass ("GradCache", Gao et al., 2021,
section 3.3, whose two passes these are), and the logits are taken by blocks of
rows.

Shapes: as in `model`. A pair whose text or audio is missing has no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Bool, Float

from musiclm_jax import batches
from musiclm_jax.array_types import Array, Batch, PRNGKey, Variables
from musiclm_jax.checkpoints import bundle
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.mulan import (
  audio_tower,
  contrastive,
  model,
  parts,
  spec_augment,
)

_PREFIX = 'mulan/'
_RECALL_AT = (1, 10)

BATCH_KEYS = (
  batches.WAVEFORM,
  batches.SAMPLE_MASK,
  batches.TEXT_TOKENS,
  batches.TEXT_MASK,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MulanObjective:
  """Trains both towers on pairs.

  A batch has a waveform of the towers' window and the tokens of one text a row
  (see `batches`).

  Attributes:
    model: Sizes and vocabulary.
    form: Of the loss, of `contrastive.FORMS`; the paper's is 'decoupled'.
    tower_rows: Pairs of the global batch that the towers take at a time; all,
      with every activation kept, if None.
    block_rows: Rows of logits that are there at a time; all if None.
  """

  model: model.MulanConfig
  form: str = 'decoupled'
  tower_rows: int | None = None
  block_rows: int | None = None

  batch_is_coupled = True

  def __post_init__(self):
    if self.form not in contrastive.FORMS:
      raise ValueError(
        f'form is {self.form!r}; choose one of {contrastive.FORMS}.'
      )

  def init(self, key: PRNGKey, batch: Batch) -> Variables:
    self._check(batch)
    return self.model.init(key)

  def loss(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> LossOutput:
    audio, text = self._embed(variables, batch, key=key)
    return self._scores(variables, audio, text, _valid(batch))

  def evaluate(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    """Loss, and retrieval among the pairs of this one batch."""
    del key  # Nothing is drawn.
    audio, text = self._embed(variables, batch)
    output = self._scores(variables, audio, text, _valid(batch))
    return Evaluation(metrics={_PREFIX + 'loss': output.loss, **output.metrics})

  def bundle(self, variables: Variables) -> bundle.BundleContents:
    return bundle.BundleContents(
      kind=model.KIND,
      config=self.model,
      weights=meta.unbox(dict(variables)),
      stream_out=None,
    )

  def _check(self, batch: Batch) -> None:
    if missing := [key for key in BATCH_KEYS if key not in batch]:
      raise ValueError(
        f'MuLan is trained on {list(BATCH_KEYS)} and the batch lacks {missing}; it'
        f' has {sorted(batch)}. Read the corpus by data.pairs.PairBatches.'
      )
    samples = batch[batches.WAVEFORM].shape[1]
    if samples != self.model.window_samples:
      raise ValueError(
        f'Crops of {samples} samples; the audio tower hears'
        f' {self.model.window_samples} at {self.model.sample_rate_hz} Hz. Set'
        " window_seconds and sample_rate_hz of the batches to the tower's."
      )

  def _embed(
    self, variables: Variables, batch: Batch, *, key: PRNGKey | None = None
  ) -> tuple[Float[Array, 'batch embed'], Float[Array, 'batch embed']]:
    """Both sides of all pairs; with a key as in training."""
    self._check(batch)
    audio = [batch[batches.WAVEFORM], batch[batches.SAMPLE_MASK]]
    text = [batch[batches.TEXT_TOKENS], batch[batches.TEXT_MASK]]
    rngs = [None, None]
    if key is not None:
      draw_key, *rngs = jax.random.split(key, 3)
      augment = self.model.audio.augment
      if augment is not None:
        num_rows = len(batch[batches.WAVEFORM])
        audio.append(spec_augment.draw(draw_key, num_rows, config=augment))
    return tuple(
      self._by_parts(variables, method, arrays, rng)
      for method, arrays, rng in (
        (model.Mulan.embed_audio, audio, rngs[0]),
        (model.Mulan.embed_text, text, rngs[1]),
      )
    )

  def _by_parts(
    self,
    variables: Variables,
    method: Callable[..., Any],
    arrays: list[Any],
    key: PRNGKey | None,
  ) -> Float[Array, 'batch embed']:
    """One tower over some rows at a time."""
    module = model.Mulan(self.model)

    def embed(part: tuple[Any, ...]) -> jax.Array:
      numbers, *inputs = part
      # A key of its own for each part: by its first row.
      rngs = (
        None
        if key is None
        else {'dropout': jax.random.fold_in(key, numbers[0])}
      )
      return module.apply(variables, *inputs, method=method, rngs=rngs)

    if self.tower_rows is not None:
      embed = jax.checkpoint(
        embed,
        policy=jax.checkpoint_policies.save_only_these_names(
          audio_tower.FEATURES
        ),
      )
    rows = (jnp.arange(len(arrays[0])), *map(jnp.asarray, arrays))
    return parts.map_parts(embed, rows, part_rows=self.tower_rows)

  def _scores(
    self,
    variables: Variables,
    audio: Float[Array, 'batch embed'],
    text: Float[Array, 'batch embed'],
    valid: Bool[Array, ' batch'],
  ) -> LossOutput:
    params = meta.unbox(variables['params'])
    temperature = model.temperature(params)
    bias = params['logit_bias'] if self.form == 'sigmoid' else 0.0
    losses = contrastive.pair_losses(
      audio,
      text,
      scale=1 / temperature,
      bias=bias,
      valid=valid,
      form=self.form,
      block_rows=self.block_rows,
    )
    # Alone, a pair has nothing to be told from.
    counted = valid & (jnp.sum(valid) > 1)
    figures = {
      'temperature': WeightedMean.of(jax.lax.stop_gradient(temperature)),
      'share_of_pairs': WeightedMean.of(valid.astype(losses.dtype)),
    }
    sides = [jax.lax.stop_gradient(side) for side in (audio, text)]
    for name, (queries, candidates) in {
      'audio_to_text': sides,
      'text_to_audio': sides[::-1],
    }.items():
      ranks = contrastive.ranks(
        queries, candidates, valid=valid, block_rows=self.block_rows
      )
      for count in _RECALL_AT:
        figures[f'recall_at_{count}/{name}'] = WeightedMean.of(
          (ranks < count).astype(losses.dtype), counted
        )
    return LossOutput(
      loss=WeightedMean.of(losses, counted),
      metrics={_PREFIX + name: figure for name, figure in figures.items()},
    )


def _valid(batch: Batch) -> Bool[Array, ' batch']:
  """Rows that have both sides."""
  has_audio = jnp.any(batch[batches.SAMPLE_MASK], axis=1)
  return has_audio & jnp.any(batch[batches.TEXT_MASK], axis=1)
