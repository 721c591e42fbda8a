# SPDX-License-Identifier: Apache-2.0
"""How w2v-BERT is trained: choose the right frame, and name its code.

Chung et al., "w2v-BERT" (2021), section 3.2: L = beta (L_w + alpha L_div) +
gamma L_mlm with alpha 0.1, beta and gamma 1. L_w is equation 3 of wav2vec 2.0
(Baevski et al., 2020): the cosine to the masked frame's quantized vector against
those of distractors. A distractor of the same code is none, as in that paper's
published program: it cannot be told apart, and in music, which repeats, such
frames would drown the others. L_mlm is the cross-entropy of the masked frame's
code.

Both are means over all masked frames of the batch; L_div is about the mean over
all its frames, which couples the examples.

Shapes: batch, frames; attended = frames that are compared with; codebook.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float, Int

from musiclm_jax import batches, metrics
from musiclm_jax.array_types import Batch, FrameMask, PRNGKey, Variables
from musiclm_jax.checkpoints import bundle
from musiclm_jax.metrics import (
  Evaluation,
  Histogram,
  LossOutput,
  WeightedMean,
)
from musiclm_jax.quantization import gumbel
from musiclm_jax.semantic import masking, w2v_bert

_PREFIX = 'w2v_bert/'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
  """What counts how much.

  Attributes:
    contrastive_weight: beta, of the contrastive loss with its diversity.
    diversity_weight: alpha, of the diversity loss within it.
    mlm_weight: gamma, of the masked prediction.
    num_distractors: Frames that a masked frame is told from.
    temperature: That cosines are divided by.
  """

  contrastive_weight: float = 1.0
  diversity_weight: float = 0.1
  mlm_weight: float = 1.0
  num_distractors: int = 100
  temperature: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class W2vBertObjective:
  """Trains w2v-BERT on clips without labels.

  Attributes:
    model: Sizes.
    masking: What is hidden.
    losses: What counts how much.
  """

  model: w2v_bert.W2vBertConfig
  masking: masking.MaskingConfig = masking.MaskingConfig()
  losses: LossConfig = LossConfig()

  batch_is_coupled = True

  def init(self, key: PRNGKey, batch: Batch) -> Variables:
    sample_mask = batch[batches.SAMPLE_MASK]
    return self._module.init(
      key,
      batch[batches.WAVEFORM],
      sample_mask=sample_mask,
      span_mask=self.model.frame_mask(sample_mask),
    )

  def loss(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> LossOutput:
    mask_key, code_key, dropout_key, distractor_key = jax.random.split(key, 4)
    masked = self._masked(batch, mask_key)
    prediction, updates = self._module.apply(
      variables,
      batch[batches.WAVEFORM],
      sample_mask=batch[batches.SAMPLE_MASK],
      span_mask=masked,
      key=code_key,
      rngs={'dropout': dropout_key},
      mutable=[gumbel.SCHEDULE],
    )
    output = self._scores(prediction, batch, masked, distractor_key)
    histograms = self._histograms(prediction, batch, masked)
    figures = {
      **output.metrics,
      _PREFIX + 'temperature': WeightedMean.of(
        prediction.quantized.temperature
      ),
      **{
        f'{name}/perplexity': WeightedMean.of(histogram.perplexity)
        for name, histogram in histograms.items()
      },
    }
    figures = jax.lax.stop_gradient(figures)
    return LossOutput(loss=output.loss, metrics=figures, updates=updates)

  def evaluate(
    self, variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    """Masked as in training, but the most likely codes and no dropout."""
    mask_key, distractor_key = jax.random.split(key)
    masked = self._masked(batch, mask_key)
    prediction = self._module.apply(
      variables,
      batch[batches.WAVEFORM],
      sample_mask=batch[batches.SAMPLE_MASK],
      span_mask=masked,
    )
    output = self._scores(prediction, batch, masked, distractor_key)
    return Evaluation(
      metrics={_PREFIX + 'loss': output.loss, **output.metrics},
      histograms=self._histograms(prediction, batch, masked),
    )

  def bundle(self, variables: Variables) -> bundle.BundleContents:
    """Separate blocks, however they were trained; makes no codes by itself."""
    config, params = w2v_bert.to_inference(
      self.model, meta.unbox(variables)['params']
    )
    return bundle.BundleContents(
      kind='w2v_bert',
      config=config,
      weights={'params': params},
      stream_out=None,
    )

  @property
  def _module(self) -> w2v_bert.W2vBert:
    return w2v_bert.W2vBert(self.model)

  def _masked(self, batch: Batch, key: PRNGKey) -> FrameMask:
    return masking.span_mask(
      key,
      frame_mask=self.model.frame_mask(batch[batches.SAMPLE_MASK]),
      config=self.masking,
    )

  def _scores(
    self,
    prediction: w2v_bert.Prediction,
    batch: Batch,
    masked: FrameMask,
    key: PRNGKey,
  ) -> LossOutput:
    """The loss, and its terms among the figures."""
    config, quantized = self.losses, prediction.quantized
    frame_mask = self.model.frame_mask(batch[batches.SAMPLE_MASK])
    contrastive, is_nearest = contrastive_loss(
      prediction.context,
      quantized.vectors,
      codes=quantized.drawn,
      distractors=masking.distractor_weights(
        key, masked=masked, num_distractors=config.num_distractors
      ),
      temperature=config.temperature,
    )
    codes = jax.lax.stop_gradient(quantized.codes)
    nats = cross_entropy(prediction.logits, codes)
    diversity = gumbel.diversity_loss(
      _mean_over_frames(quantized.probabilities, frame_mask)
    )
    terms = {
      'contrastive': WeightedMean.of(contrastive, masked),
      'mlm': WeightedMean.of(nats, masked),
    }
    loss = config.mlm_weight * terms['mlm'].mean + config.contrastive_weight * (
      terms['contrastive'].mean + config.diversity_weight * diversity
    )
    held, is_held = held_codes(codes, masked=masked, frame_mask=frame_mask)
    is_right = jnp.argmax(prediction.logits, axis=-1) == codes
    figures = {
      **terms,
      'diversity': WeightedMean.of(diversity),
      'contrastive_accuracy': WeightedMean.of(is_nearest, masked),
      'mlm_accuracy': WeightedMean.of(is_right, masked),
      # What somebody gets who knows nothing but the frame before the span.
      'held_accuracy': WeightedMean.of(held == codes, masked & is_held),
      'masked_share': WeightedMean.of(masked, frame_mask),
    }
    return LossOutput(
      loss=WeightedMean.of(loss),
      metrics={_PREFIX + name: figure for name, figure in figures.items()},
    )

  def _histograms(
    self, prediction: w2v_bert.Prediction, batch: Batch, masked: FrameMask
  ) -> dict[str, Histogram]:
    """Codes of all frames, as chosen and by probability, and of the masked."""
    quantized = prediction.quantized
    frame_mask = self.model.frame_mask(batch[batches.SAMPLE_MASK])
    size = self.model.quantizer.codebook_size
    found = {
      'codes': Histogram.of(quantized.codes, frame_mask, num_values=size),
      'soft_codes': Histogram(
        jnp.sum(
          jnp.where(frame_mask[:, :, None], quantized.probabilities, 0),
          axis=(0, 1),
        )
      ),
      'targets': Histogram.of(quantized.codes, masked, num_values=size),
    }
    return {_PREFIX + name: histogram for name, histogram in found.items()}


def contrastive_loss(
  context: Float[Array, 'batch frames code'],
  quantized: Float[Array, 'batch frames code'],
  *,
  codes: Int[Array, 'batch frames'],
  distractors: Float[Array, 'batch frames attended'],
  temperature: float,
) -> tuple[Float[Array, 'batch frames'], Any]:
  """Equation 3 of wav2vec 2.0, for every frame.

  Args:
    context: What the model makes of each frame.
    quantized: What it should be like.
    codes: Of which `quantized` are the vectors.
    distractors: How often each frame counts among the others; those of the
      same code do not.
    temperature: That cosines are divided by.

  Returns:
    The loss, and whether no distractor's cosine reaches the right frame's.
  """
  cosines = jnp.einsum(
    'btc,brc->btr',
    _unit(context),
    _unit(quantized),
    # Highest: a TPU would round what is divided by the temperature.
    precision=jax.lax.Precision.HIGHEST,
  )
  scores = cosines / temperature
  right = jnp.diagonal(scores, axis1=1, axis2=2)
  counts = (distractors > 0) & (codes[:, :, None] != codes[:, None, :])
  log_weights = jnp.log(jnp.where(counts, distractors, 1))
  others = jnp.where(counts, scores + log_weights, -jnp.inf)
  everyone = jnp.concatenate([right[:, :, None], others], axis=-1)
  loss = jax.nn.logsumexp(everyone, axis=-1) - right
  is_nearest = jnp.all(~counts | (scores < right[:, :, None]), axis=-1)
  return loss, is_nearest


def cross_entropy(
  logits: Float[Array, 'batch frames codebook'],
  codes: Int[Array, 'batch frames'],
) -> Float[Array, 'batch frames']:
  """-log p(code), in nats."""
  right = jnp.take_along_axis(logits, codes[:, :, None], axis=-1)[:, :, 0]
  return jax.nn.logsumexp(logits, axis=-1) - right


def held_codes(
  codes: Int[Array, 'batch frames'],
  *,
  masked: FrameMask,
  frame_mask: FrameMask,
) -> tuple[Int[Array, 'batch frames'], FrameMask]:
  """The code of the last visible frame up to each, and whether there is one."""
  places = jnp.arange(codes.shape[1])[None]
  seen = jnp.where(frame_mask & ~masked, places, -1)
  last = jax.lax.cummax(seen, axis=1)
  held = jnp.take_along_axis(codes, jnp.maximum(last, 0), axis=1)
  return held, last >= 0


def _mean_over_frames(
  values: Float[Array, 'batch frames codebook'], frame_mask: FrameMask
) -> Float[Array, ' codebook']:
  total = jnp.sum(jnp.where(frame_mask[:, :, None], values, 0), axis=(0, 1))
  return total / jnp.maximum(jnp.sum(frame_mask), 1).astype(total.dtype)


def _unit(
  vectors: Float[Array, 'batch frames code'],
) -> Float[Array, 'batch frames code']:
  """Of length 1, in at least float32."""
  vectors = vectors.astype(metrics.accumulation_dtype(vectors.dtype))
  square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(square + 1e-12)
