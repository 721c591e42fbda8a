# SPDX-License-Identifier: Apache-2.0
"""A decoder trained alone: the codes stay, and all that reads them goes on."""

import dataclasses

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.checkpoints import bundle, fingerprint
from musiclm_jax.codec import (
  discriminators,
  objective,
  reconstruction,
  soundstream,
)
from musiclm_jax.codec.base import load_codec
from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.training import adversarial, hooks, loop, optimizers
from musiclm_jax.training.partitioning import Partitioner
from tests.inference import toys as inference_toys
from tests.training import toys

CODEC = inference_toys.CODEC
BATCH, SAMPLES = 7, 30

DECODER = objective.SoundStreamObjective(
  codec=CODEC,
  discriminators=discriminators.DiscriminatorsConfig(
    members=(
      discriminators.WaveConfig(
        channels=4, max_channels=8, num_strides=1, num_resolutions=1
      ),
    )
  ),
  losses=objective.LossConfig(
    mel_distance=reconstruction.MelDistanceConfig(windows=(16,), num_mels=3)
  ),
  trains='decoder',
)
WHOLE = dataclasses.replace(DECODER, trains='codec')


def make_training(objective):
  return adversarial.AdversarialTraining(
    objective=objective,
    # Decay would reach what has no gradient.
    generator_optimizer=optimizers.adamw(learning_rate=1e-2, weight_decay=0.1),
    discriminator_optimizer=optimizers.adam(learning_rate=1e-2),
    ema_decay=0.9,
  )


def train(model_dir, parent, objective=DECODER, num_steps=3):
  return loop.train(
    model_dir=str(model_dir),
    training=make_training(objective),
    batches=toys.Noise(batch_size=BATCH, samples=SAMPLES),
    num_steps=num_steps,
    save_every_steps=num_steps,
    partitioner=Partitioner(data=1),
    hooks=[hooks.Publish()],
    seed=5,
    warm_start=str(parent),
  )


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """The folders of a whole MusicLM."""
  return inference_toys.publish(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def parent(model):
  return model['codec']


@pytest.fixture(scope='module')
def trained(parent, tmp_path_factory):
  """The folder of three steps, and the state after them."""
  folder = tmp_path_factory.mktemp('decoder')
  return folder, jax.device_get(train(folder, parent))


def leaves(tree):
  """By path."""
  return {
    jax.tree_util.keystr(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.slow
def test_all_but_the_decoder_keeps_its_bits_and_its_moments_are_zero(
  parent, trained
):
  folder, state = trained
  before = fingerprint.flatten(bundle.load(parent).weights)
  after = fingerprint.flatten(bundle.load(folder).weights)
  assert before.keys() == after.keys()
  moved = {
    path for path in before if before[path].tobytes() != after[path].tobytes()
  }
  assert moved == {path for path in before if path.startswith('params/decoder')}
  moments = {
    path: leaf
    for path, leaf in leaves(state.opt_state['generator']).items()
    if '.mu' in path or '.nu' in path
  }
  encoder = {path for path in moments if "['encoder']" in path}
  assert 0 < len(encoder) < len(moments)
  for path, leaf in moments.items():
    assert np.any(leaf) == (path not in encoder), path
  # Not only the average that is published.
  weights = bundle.load(parent).weights
  generator = {
    'params': {**state.params['generator'], 'decoder': None},
    **state.collections['generator'],
  }
  wanted = {**weights, 'params': {**weights['params'], 'decoder': None}}
  jax.tree.map(np.testing.assert_array_equal, generator, wanted)


@pytest.mark.slow
def test_codes_and_token_space_are_those_of_the_parent(parent, trained):
  folder, _ = trained
  old, new = bundle.load(parent), bundle.load(folder)
  assert new.fingerprint != old.fingerprint
  assert new.derived_from == new.token_space == old.token_space
  assert new.stream_out == old.stream_out
  codecs = load_codec(parent), load_codec(folder)
  waveform = np.random.default_rng(0).uniform(-1, 1, (2, 78))
  codes, same = (
    codec.encode(waveform.astype(np.float32), sample_rate_hz=60)
    for codec in codecs
  )
  np.testing.assert_array_equal(codes, same)
  assert len(np.unique(codes)) > 3
  heard, other = (codec.decode(codes) for codec in codecs)
  assert not np.allclose(heard, other)


@pytest.mark.slow
def test_a_batch_is_decoded_from_various_numbers_of_levels(parent):
  weights = bundle.load(parent).weights
  batch = toys.Noise(batch_size=BATCH, samples=SAMPLES).batch(0)
  codec = load_codec(parent)
  waveform = np.where(batch['sample_mask'], batch['waveform'], 0)
  codes = np.asarray(codec.encode(waveform, sample_rate_hz=60))
  made = jax.jit(DECODER.generate)(weights, batch, jax.random.key(1))
  assert made.updates == {}
  # Levels that are not there add nothing.
  decoded = np.stack(
    [
      np.where(batch['sample_mask'], codec.decode(codes[..., :count]), 0)
      for count in range(1, 6)
    ]
  )
  errors = np.abs(decoded - np.asarray(made.waveform)[None]).max(axis=-1)
  np.testing.assert_allclose(errors.min(axis=0), 0, atol=1e-5)
  assert len(np.unique(errors.argmin(axis=0))) > 2


def test_codebooks_move_with_the_codec_and_not_with_its_decoder():
  batch = toys.Noise(batch_size=BATCH, samples=SAMPLES).batch(0)
  key = jax.random.key(0)
  variables = jax.eval_shape(DECODER.init, key, batch)['generator']

  def updates(objective):
    def made(*inputs):
      return objective.generate(*inputs).updates

    return jax.eval_shape(made, variables, batch, key)

  assert updates(DECODER) == {}
  assert updates(WHOLE).keys() == {'codebooks'}
  assert DECODER.trained_parts == ('decoder',) and WHOLE.trained_parts is None


def test_what_is_trained_is_the_codec_or_its_decoder():
  with pytest.raises(ValueError, match="'encoder'; choose .*codec, decoder"):
    dataclasses.replace(DECODER, trains='encoder')


@pytest.mark.slow
def test_nothing_is_pulled_back_through_the_encoder():
  batch = toys.Noise(batch_size=BATCH, samples=SAMPLES).batch(0)

  def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()['flops']

  def step(objective):
    training = make_training(objective)
    state = meta.unbox(jax.eval_shape(training.init, 0, batch))
    return flops(training.train_step, state, batch)

  def encode(params, waveform):
    return soundstream.Encoder(CODEC).apply({'params': params}, waveform)

  encoder = jax.eval_shape(
    soundstream.Encoder(CODEC).init, jax.random.key(0), batch['waveform']
  )
  once = flops(encode, meta.unbox(encoder)['params'], batch['waveform'])
  # A pull-back takes two passes: to the parameters and to what they act on.
  assert step(WHOLE) - step(DECODER) > 1.5 * once > 0


@pytest.mark.slow
def test_stages_accept_the_decoder_and_refuse_a_codec_trained_wholly(
  model, parent, trained, tmp_path
):
  def assembled(codec):
    assembly.write(tmp_path / 'out', **(model | {'codec': codec}))
    return MusicLM.load(tmp_path / 'out')

  train(tmp_path / 'again', trained[0], num_steps=1)
  for folder in (trained[0], tmp_path / 'again'):
    found = bundle.load(folder)
    assert found.token_space == bundle.load(parent).fingerprint
    assert assembled(folder).codec.stream == found.stream_out
  train(tmp_path / 'whole', parent, WHOLE, num_steps=1)
  with pytest.raises(ValueError, match='musiclm tokenize'):
    assembled(tmp_path / 'whole')
