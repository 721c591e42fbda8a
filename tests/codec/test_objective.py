# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import discriminators, objective, reconstruction
from musiclm_jax.codec.discriminators import Judgement, Layer
from musiclm_jax.codec.soundstream import SoundStreamConfig
from musiclm_jax.metrics import WeightedMean
from musiclm_jax.quantization.residual import ResidualQuantizerConfig
from musiclm_jax.training import adversarial
from musiclm_jax.training.objective import AdversarialObjective

SAMPLES = 600

OBJECTIVE = objective.SoundStreamObjective(
  codec=SoundStreamConfig(
    sample_rate_hz=2400,
    channels=4,
    strides=(2, 5),
    embed_dim=7,
    quantizer=ResidualQuantizerConfig(
      num_levels=3, codebook_size=11, dead_code_threshold=0.0
    ),
  ),
  discriminators=discriminators.DiscriminatorsConfig(
    members=(
      discriminators.WaveConfig(
        channels=4, max_channels=8, num_strides=2, num_resolutions=2
      ),
      discriminators.StftConfig(
        window_samples=64, hop_samples=16, channels=3, multipliers=(2, 3)
      ),
    )
  ),
  losses=objective.LossConfig(
    mel_distance=reconstruction.MelDistanceConfig(windows=(64, 128), num_mels=9)
  ),
)


def _batch(mask=None):
  """Two decaying chords."""
  time = np.arange(SAMPLES) / 2400
  chords = [
    sum(np.sin(2 * np.pi * hz * time) for hz in chord) * np.exp(-5 * time) / 4
    for chord in ((110, 440), (165, 330))
  ]
  if mask is None:
    mask = np.ones((2, SAMPLES), bool)
  return {
    'waveform': jnp.asarray(np.stack(chords), jnp.float32),
    'sample_mask': jnp.asarray(mask),
  }


def _players():
  made = meta.unbox(jax.jit(OBJECTIVE.init)(jax.random.key(1), _batch()))
  return made['generator'], made['discriminator']['params']


def _layer(values, mask=None):
  values = jnp.asarray(values, jnp.float32)
  if mask is None:
    mask = jnp.ones(values.shape[:2], bool)
  return Layer(values, jnp.asarray(mask))


def _judgement(logits, features=(), mask=None):
  return Judgement(
    _layer(logits, mask), tuple(_layer(f, mask) for f in features)
  )


def test_it_is_what_the_trainer_asks_for():
  assert isinstance(OBJECTIVE, AdversarialObjective)


def test_hinges_are_means_over_logits_then_over_discriminators():
  real = _judgement([[0.5, 2.0]]), _judgement([[-1.0]])
  fake = _judgement([[-3.0, 0.5]]), _judgement([[0.0]])
  # max(0, 1 - real): (0.5 + 0) / 2 and 2. max(0, 1 + fake): 1.5 / 2 and 1.
  wanted = (0.25 + 2) / 2 + (0.75 + 1) / 2
  got = objective.discriminator_hinge(real, fake)
  np.testing.assert_allclose(got, wanted)
  # max(0, 1 - fake): (4 + 0.5) / 2 and 1.
  np.testing.assert_allclose(objective.generator_hinge(fake), (4.5 / 2 + 1) / 2)


def test_hinge_leaves_padded_logits_out():
  mask = [[True, False], [False, False]]
  fake = (_judgement([[3.0, 50.0], [50.0, 50.0]], mask=mask),)
  np.testing.assert_allclose(objective.discriminator_hinge(fake, fake), 4.0)


def test_features_are_compared_by_means_of_layers():
  real = (_judgement([[0.0]], features=([[[1.0, 2.0]]], [[[[1.0], [5.0]]]])),)
  fake = (_judgement([[0.0]], features=([[[2.0, 4.0]]], [[[[1.0], [1.0]]]])),)
  np.testing.assert_allclose(
    objective.feature_distance(real, fake), (1.5 + 2.0) / 2
  )


def test_each_player_starts_at_its_step():
  timed = dataclasses.replace(
    OBJECTIVE,
    losses=objective.LossConfig(
      adversarial_start=5, discriminator_start=3, waveform_weight=6.0
    ),
  )
  generated = objective.Generated(
    waveform=jnp.zeros((1, 1)),
    losses={
      'mel_distance/64': WeightedMean.of(2.0),
      'mel_distance/128': WeightedMean.of(3.0),
      'commitment': WeightedMean.of(4.0),
      'waveform': WeightedMean.of(0.5),
    },
    metrics={},
    updates={},
  )
  judged = objective.Judged(
    real=(_judgement([[0.0]], features=([[[0.5]]],)),),
    fake=(_judgement([[0.25]], features=([[[0.75]]],)),),
  )

  def losses(step):
    step = jnp.asarray(step)
    return (
      float(timed.discriminator_loss(judged, step).loss.mean),
      float(timed.generator_loss(generated, judged, step).loss.mean),
    )

  plain = 2 + 3 + 0.25 * 4 + 6 * 0.5
  heard = plain + 1 * 0.75 + 100 * 0.25
  learning = 1 + 1.25
  assert losses(2) == pytest.approx((0, plain))
  assert losses(3) == pytest.approx((learning, plain))
  assert losses(4) == pytest.approx((learning, plain))
  assert losses(5) == pytest.approx((learning, heard))


def test_generator_may_not_hear_who_has_not_learnt():
  with pytest.raises(ValueError, match='no earlier'):
    objective.LossConfig(adversarial_start=2, discriminator_start=3)


@pytest.mark.slow
def test_what_padding_holds_changes_nothing():
  generator, discriminator = _players()
  mask = np.arange(SAMPLES) < np.array([[SAMPLES], [293]])
  quiet = _batch(mask)
  noise = jax.random.normal(jax.random.key(2), quiet['waveform'].shape)
  loud = {**quiet, 'waveform': jnp.where(mask, quiet['waveform'], noise)}

  @jax.jit
  def play(batch):
    generated = OBJECTIVE.generate(generator, batch, jax.random.key(3))
    judged = OBJECTIVE.judge(discriminator, batch, generated.waveform)
    step = jnp.zeros((), int)
    return (
      OBJECTIVE.generator_loss(generated, judged, step),
      OBJECTIVE.discriminator_loss(judged, step),
      generated.updates,
    )

  jax.tree.map(np.testing.assert_array_equal, play(quiet), play(loud))
  without = jax.tree.leaves(play(_batch()))
  assert not np.allclose(jax.tree.leaves(play(loud))[0], without[0])


def _gradients(both_players, generator, discriminator, batch, key):
  """Of two separate passes, one a player."""
  params, statistics = generator['params'], generator['codebooks']
  step = jnp.zeros((), int)

  def generate(params):
    variables = {'params': params, 'codebooks': statistics}
    return both_players.generate(variables, batch, key)

  def generator_loss(params):
    generated = generate(params)
    judged = both_players.judge(discriminator, batch, generated.waveform)
    return both_players.generator_loss(generated, judged, step).loss.mean

  def discriminator_loss(discriminator):
    judged = both_players.judge(discriminator, batch, generate(params).waveform)
    return both_players.discriminator_loss(judged, step).loss.mean

  return {
    'generator': jax.grad(generator_loss)(params),
    'discriminator': jax.grad(discriminator_loss)(discriminator),
  }


def _double(leaf):
  return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf


@pytest.mark.slow
def test_shared_passes_give_the_gradients_of_separate_ones():
  doubled = dataclasses.replace(
    OBJECTIVE,
    codec=dataclasses.replace(OBJECTIVE.codec, dtype='float64'),
    discriminators=dataclasses.replace(
      OBJECTIVE.discriminators, dtype='float64'
    ),
  )
  with jax.enable_x64():
    batch = jax.tree.map(_double, _batch())
    generator, discriminator = jax.tree.map(_double, _players())
    training = _training()
    state = meta.unbox(jax.eval_shape(training.init, 0, batch))
    state = dataclasses.replace(
      state,
      step=jnp.zeros((), state.step.dtype),
      params={
        'generator': generator['params'],
        'discriminator': discriminator,
      },
      collections={'generator': {'codebooks': generator['codebooks']}},
    )
    key = jax.random.key(3)
    shared, separate = jax.jit(
      lambda state: (
        adversarial.play(doubled, state, batch, key).gradients,
        _gradients(doubled, generator, discriminator, batch, key),
      )
    )(state)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
        a, b, rtol=1e-9, atol=1e-9 * max(1e-3, np.abs(b).max())
      ),
      shared,
      separate,
    )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(shared)) > 1e-3


@pytest.mark.slow
def test_each_pull_back_drops_what_its_player_does_not_read():
  batch = _batch()
  _, discriminator = _players()

  def flops(wanted):
    def gradients(discriminator, fake):
      judged, pull_back = jax.vjp(
        lambda params, fake: OBJECTIVE.judge(params, batch, fake),
        discriminator,
        fake,
      )
      cotangent = jax.tree.map(
        lambda leaf: (
          np.zeros(leaf.shape, jax.dtypes.float0)
          if leaf.dtype == bool
          else jnp.ones_like(leaf)
        ),
        judged,
      )
      return wanted(*pull_back(cotangent))

    compiled = jax.jit(gradients).lower(discriminator, batch['waveform'])
    return compiled.compile().cost_analysis()['flops']

  both = flops(lambda to_params, to_fake: (to_params, to_fake))
  learning = flops(lambda to_params, to_fake: to_params)
  hearing = flops(lambda to_params, to_fake: to_fake)
  # In units of one pass over one waveform: 2 forward, and back 2 x 2 to the
  # parameters or 1 to the fake.
  assert hearing < 0.65 * learning
  assert learning < both


def _training():
  return adversarial.AdversarialTraining(
    objective=OBJECTIVE,
    generator_optimizer=optax.adam(1e-2, b1=0.5, b2=0.9),
    discriminator_optimizer=optax.adam(1e-3, b1=0.5, b2=0.9),
  )


@pytest.mark.slow
def test_thirty_steps_halve_the_mel_distance_of_one_batch():
  training, batch = _training(), _batch()
  state = meta.unbox(jax.jit(training.init, static_argnums=0)(0, batch))
  step = jax.jit(training.train_step, donate_argnums=0)
  distances, usages = [], []
  for _ in range(30):
    state, metrics = step(state, batch)
    distances.append(float(metrics['codec/mel_distance'].mean))
    usages.append(float(metrics['codec/usage/level_1'].mean))
  assert distances[-1] < distances[0] / 2, distances
  assert max(usages) > 0.5
  assert float(metrics['codec/perplexity/level_3'].mean) > 1


def test_evaluation_reconstructs_and_leaves_padding_silent():
  generator, _ = _players()
  mask = np.arange(SAMPLES) < np.array([[SAMPLES], [293]])
  shown = jax.jit(OBJECTIVE.evaluate)(
    generator, _batch(mask), jax.random.key(0)
  )
  assert shown.metrics['codec/mel_distance'].weight == SAMPLES + 293
  assert set(shown.waveforms) == {'original', 'reconstruction'}
  for waveform in shown.waveforms.values():
    assert waveform.shape == (2, SAMPLES)
    assert not np.any(waveform[1, 293:])


def test_bundle_carries_the_codec_and_its_codebooks_alone(tmp_path):
  generator, _ = _players()
  contents = OBJECTIVE.bundle(generator)
  assert set(contents.weights) == {'params', 'codebooks'}
  assert set(contents.weights['params']) <= {'encoder', 'decoder', 'quantizer'}
  bundle.publish(tmp_path, contents)
  loaded = bundle.load(tmp_path, kind='codec')
  assert loaded.config == OBJECTIVE.codec
  assert loaded.stream_out.num_codebooks == 3
