# SPDX-License-Identifier: Apache-2.0
"""How SoundStream is trained: reconstruct, and be taken for the original.

SoundStream (Zeghidour et al., 2021), section III-E, equations 2 to 9: hinge
losses of both players, feature matching, multi-scale mel distance, weights 1,
100 and 1. Equation 6 divides the distance of features by their number of
steps; ours divides by the channels too, so that a wide layer weighs no more
than a narrow one. The paper gives no weight for the commitment loss and no
warm-up of the discriminators: both ours. The time-domain term of Défossez et
al., "High Fidelity Neural Audio Compression" (2022), section 3.4, may join them:
it has a short run follow the phase of harmonics, which mels do not see.

Padding takes no part: both waveforms are silenced there before anybody
listens, and steps that stand for padding alone have no weight in any loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float, Int

from musiclm_jax import batches
from musiclm_jax.array_types import Batch, PRNGKey, Variables, Waveform
from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import discriminators, reconstruction, soundstream
from musiclm_jax.codec.discriminators import Judgement
from musiclm_jax.metrics import Evaluation, LossOutput, WeightedMean
from musiclm_jax.quantization import residual

_PREFIX = 'codec/'

# Parts of the codec, by what is trained; None for all of it.
_TRAINED = {'codec': None, 'decoder': ('decoder',)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
  """What counts how much, and from when on.

  Attributes:
    adversarial_weight: Of the generator's hinge loss.
    feature_weight: Of feature matching.
    reconstruction_weight: Of the mel distance.
    commitment_weight: Of the latents' distance to their codes.
    waveform_weight: Of the mean |difference| of the waveforms; 0 in SoundStream.
    adversarial_start: Step from which the generator hears the discriminators,
      in hinge loss and feature matching.
    discriminator_start: Step from which the discriminators learn.
    mel_distance: Which spectrograms are compared.
  """

  adversarial_weight: float = 1.0
  feature_weight: float = 100.0
  reconstruction_weight: float = 1.0
  commitment_weight: float = 0.25
  waveform_weight: float = 0.0
  adversarial_start: int = 0
  discriminator_start: int = 0
  mel_distance: reconstruction.MelDistanceConfig = (
    reconstruction.MelDistanceConfig()
  )

  def __post_init__(self):
    if self.adversarial_start < self.discriminator_start:
      raise ValueError(
        f'The generator hears the discriminators from step'
        f' {self.adversarial_start}, before they learn from step'
        f' {self.discriminator_start} on; let adversarial_start be no earlier.'
      )


@flax.struct.dataclass
class Generated:
  """What the codec made of a batch.

  Attributes:
    waveform: The reconstruction, silent over padding.
    losses: Mel distance by window, commitment and distance of the waveforms,
      unweighted.
    metrics: Figures to log.
    updates: The codebooks, moved on.
  """

  waveform: Waveform
  losses: Mapping[str, WeightedMean]
  metrics: Mapping[str, WeightedMean]
  updates: Variables


@flax.struct.dataclass
class Judged:
  """All discriminators' views of the original and of the reconstruction."""

  real: tuple[Judgement, ...]
  fake: tuple[Judgement, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundStreamObjective:
  """Trains a codec against discriminators.

  Attributes:
    codec: Sizes of the codec, which is what gets published.
    discriminators: Who listens in training.
    losses: What counts how much.
    trains: 'codec', or 'decoder': then the codes stay those of the codec that
      the run was started from, and what was trained on them goes on working.
  """

  codec: soundstream.SoundStreamConfig
  discriminators: discriminators.DiscriminatorsConfig
  losses: LossConfig = LossConfig()
  trains: str = 'codec'

  def __post_init__(self):
    if self.trains not in _TRAINED:
      raise ValueError(
        f'trains is {self.trains!r}; choose one of {", ".join(_TRAINED)}.'
      )

  @property
  def trained_parts(self) -> tuple[str, ...] | None:
    """Parts of the codec's parameters that move; None for all."""
    return _TRAINED[self.trains]

  def init(self, key: PRNGKey, batch: Batch) -> dict[str, Variables]:
    generator_key, discriminator_key, unused_key = jax.random.split(key, 3)
    waveform, sample_mask = _masked(batch)
    return {
      'generator': self._codec.init(
        generator_key, waveform, key=unused_key, sample_mask=sample_mask
      ),
      'discriminator': self._discriminators.init(
        discriminator_key, waveform, sample_mask
      ),
    }

  def generate(
    self, generator_variables: Variables, batch: Batch, key: PRNGKey
  ) -> Generated:
    waveform, sample_mask = _masked(batch)
    made, updates = self._codec.apply(
      generator_variables,
      waveform,
      key=key,
      sample_mask=sample_mask,
      mutable=[residual.CODEBOOKS] if self.trains == 'codec' else [],
    )
    fake = jnp.where(sample_mask, made.waveform, 0)
    distances = self._mel_distance(waveform, fake, batch)
    return Generated(
      waveform=fake,
      losses={
        **distances,
        'commitment': made.quantized.commitment,
        'waveform': WeightedMean.of(jnp.abs(waveform - fake), sample_mask),
      },
      metrics=_codebook_figures(made.quantized),
      updates=updates,
    )

  def judge(
    self, discriminator_params: Any, batch: Batch, fake_waveform: Waveform
  ) -> Judged:
    waveform, sample_mask = _masked(batch)

    def listen(waveform: Waveform) -> tuple[Judgement, ...]:
      return self._discriminators.apply(
        {'params': discriminator_params}, waveform, sample_mask
      )

    # Apart: the generator's pull-back then costs nothing for the original.
    return Judged(listen(waveform), listen(fake_waveform))

  def generator_loss(
    self, generated: Generated, judged: Judged, step: Int[Array, '']
  ) -> LossOutput:
    config = self.losses
    adversarial = generator_hinge(judged.fake)
    features = feature_distance(judged.real, judged.fake)
    losses = dict(generated.losses)
    commitment = losses.pop('commitment').mean
    samples = losses.pop('waveform').mean
    mel = sum(term.mean for term in losses.values())
    heard = jnp.where(step >= config.adversarial_start, 1, 0)
    loss = (
      config.reconstruction_weight * mel
      + config.commitment_weight * commitment
      + config.waveform_weight * samples
      + heard.astype(mel.dtype)
      * (
        config.adversarial_weight * adversarial
        + config.feature_weight * features
      )
    )
    figures = {
      'mel_distance': mel,
      'commitment': commitment,
      'waveform_distance': samples,
      'generator_hinge': adversarial,
      'feature_distance': features,
    }
    return LossOutput(
      loss=WeightedMean.of(loss),
      metrics={
        **{_PREFIX + name: WeightedMean.of(v) for name, v in figures.items()},
        **{_PREFIX + name: term for name, term in losses.items()},
      },
    )

  def discriminator_loss(
    self, judged: Judged, step: Int[Array, '']
  ) -> LossOutput:
    loss = discriminator_hinge(judged.real, judged.fake)
    learns = jnp.where(step >= self.losses.discriminator_start, 1, 0)
    figures = {
      'discriminator_hinge': loss,
      'logits/real': _mean_logit(judged.real),
      'logits/fake': _mean_logit(judged.fake),
    }
    return LossOutput(
      loss=WeightedMean.of(loss * learns.astype(loss.dtype)),
      metrics={
        _PREFIX + name: WeightedMean.of(v) for name, v in figures.items()
      },
    )

  def evaluate(
    self, generator_variables: Variables, batch: Batch, key: PRNGKey
  ) -> Evaluation:
    """All levels, nothing dropped, codebooks as they are."""
    del key  # Nothing is drawn.
    waveform, sample_mask = _masked(batch)

    def reconstruct(
      codec: soundstream.SoundStream, waveform: Waveform
    ) -> Waveform:
      return codec.decode(codec.encode(waveform))

    made = self._codec.apply(generator_variables, waveform, method=reconstruct)
    fake = jnp.where(sample_mask, made, 0)
    distances = self._mel_distance(waveform, fake, batch)
    total = sum(term.mean for term in distances.values())
    num_valid = jnp.sum(sample_mask).astype(total.dtype)
    figures = {'mel_distance': WeightedMean(total * num_valid, num_valid)}
    return Evaluation(
      metrics={
        _PREFIX + name: figure
        for name, figure in {**figures, **distances}.items()
      },
      waveforms={'original': waveform, 'reconstruction': fake},
    )

  def bundle(self, generator_variables: Variables) -> bundle.BundleContents:
    """The codec and its codebooks; the discriminators stay behind."""
    return bundle.BundleContents(
      kind='codec',
      config=self.codec,
      weights=meta.unbox(generator_variables),
      stream_out=self.codec.stream,
    )

  @property
  def _codec(self) -> soundstream.SoundStream:
    return soundstream.SoundStream(self.codec)

  @property
  def _discriminators(self) -> discriminators.Discriminators:
    return discriminators.Discriminators(self.discriminators)

  def _mel_distance(
    self, real: Waveform, fake: Waveform, batch: Batch
  ) -> dict[str, WeightedMean]:
    terms = reconstruction.mel_distance(
      real,
      fake,
      sample_mask=batch[batches.SAMPLE_MASK],
      sample_rate_hz=self.codec.sample_rate_hz,
      config=self.losses.mel_distance,
    )
    return {f'mel_distance/{w}': term for w, term in terms.items()}


def generator_hinge(fake: Sequence[Judgement]) -> Float[Array, '']:
  """Equation 5: mean over discriminators of max(0, 1 - D(G(x)))."""
  return _mean_over(fake, lambda logits: jnp.maximum(0, 1 - logits))


def discriminator_hinge(
  real: Sequence[Judgement], fake: Sequence[Judgement]
) -> Float[Array, '']:
  """Equation 4: means of max(0, 1 - D(x)) and of max(0, 1 + D(G(x)))."""
  return _mean_over(
    real, lambda logits: jnp.maximum(0, 1 - logits)
  ) + _mean_over(fake, lambda logits: jnp.maximum(0, 1 + logits))


def feature_distance(
  real: Sequence[Judgement], fake: Sequence[Judgement]
) -> Float[Array, '']:
  """Equation 6: mean |difference| of each internal layer, mean over layers."""
  distances = [
    _weigh(jnp.abs(ours.values - theirs.values), ours.mask).mean
    for ours, theirs in zip(
      discriminators.flatten_features(fake),
      discriminators.flatten_features(real),
      strict=True,
    )
  ]
  return sum(distances) / len(distances)


def _mean_logit(judgements: Sequence[Judgement]) -> Float[Array, '']:
  return _mean_over(judgements, lambda logits: logits)


def _mean_over(judgements: Sequence[Judgement], of: Any) -> Float[Array, '']:
  """Mean over discriminators of the mean over valid logits."""
  means = [
    _weigh(of(judgement.logits.values), judgement.logits.mask).mean
    for judgement in judgements
  ]
  return sum(means) / len(means)


def _weigh(values: jax.Array, mask: jax.Array) -> WeightedMean:
  """Over the steps of `mask`, whatever else a step has."""
  return WeightedMean.of(
    values, mask.reshape(mask.shape + (1,) * (values.ndim - 2))
  )


def _codebook_figures(
  quantized: residual.Quantized,
) -> dict[str, WeightedMean]:
  """Perplexity and usage of each level in this batch."""
  figures = {}
  for name in ('perplexity', 'usage'):
    values = jax.lax.stop_gradient(getattr(quantized, name))
    for level, value in enumerate(values, start=1):
      figures[f'{_PREFIX}{name}/level_{level}'] = WeightedMean.of(value)
  return figures


def _masked(batch: Batch) -> tuple[Waveform, jax.Array]:
  """The waveform, silent over padding, and the mask."""
  sample_mask = batch[batches.SAMPLE_MASK]
  return jnp.where(sample_mask, batch[batches.WAVEFORM], 0), sample_mask
