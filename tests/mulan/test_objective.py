# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax.checkpoints import bundle
from musiclm_jax.mulan import contrastive, model, objective
from musiclm_jax.training import optimizers
from musiclm_jax.training.objective import Objective
from musiclm_jax.training.step import Training
from tests.mulan import toys

ROWS = 12
MODEL = toys.config()
WHOLE = objective.MulanObjective(model=MODEL)
IN_PARTS = dataclasses.replace(WHOLE, tower_rows=4, block_rows=3)


@functools.cache
def variables():
  return toys.fill(MODEL.init)


@functools.partial(jax.jit, static_argnums=0)
def compiled(trained, params, batch, key):
  def loss(params):
    output = trained.loss({'params': params}, batch, key)
    return output.loss.mean, output

  return jax.grad(loss, has_aux=True)(params)


# Compiled once for all tests.
evaluate = jax.jit(WHOLE.evaluate)
embed = jax.jit(model.Mulan(MODEL).apply)


def gradients(trained, batch, key):
  return compiled(trained, variables()['params'], batch, key)


def test_it_is_what_the_trainer_asks_for():
  assert isinstance(WHOLE, Objective)
  with pytest.raises(ValueError, match='couples the examples'):
    Training(
      objective=WHOLE,
      optimizer=optimizers.adamw(learning_rate=1e-3),
      num_microbatches=2,
    )


def test_parts_give_the_loss_and_gradients_of_the_whole():
  batch, key = toys.batch(ROWS, missing=(2,)), jax.random.key(3)
  wanted, whole = gradients(WHOLE, batch, key)
  got, in_parts = gradients(IN_PARTS, batch, key)
  np.testing.assert_allclose(in_parts.loss.mean, whole.loss.mean, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * max(1e-2, np.abs(b).max()), rtol=1e-5
    ),
    got,
    wanted,
  )
  for tower in ('audio', 'text'):
    largest = max(np.abs(g).max() for g in jax.tree.leaves(wanted[tower]))
    assert largest > 1e-3
  assert abs(wanted['temperature_logit']) > 1e-3
  assert wanted['logit_bias'] == 0  # No part of this form.


def test_a_pair_without_a_text_has_no_part():
  batch, key = toys.batch(ROWS, missing=(2,)), jax.random.key(3)
  noise = np.random.default_rng(1).normal(size=toys.SAMPLES)
  louder = {**batch, 'waveform': batch['waveform'].copy()}
  louder['waveform'][2] = noise
  quiet, loud = gradients(WHOLE, batch, key), gradients(WHOLE, louder, key)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
    loud,
    quiet,
  )
  assert quiet[1].loss.weight == ROWS - 1
  share = quiet[1].metrics['mulan/share_of_pairs'].mean
  np.testing.assert_allclose(share, (ROWS - 1) / ROWS)
  louder['waveform'][3] = noise
  other = gradients(WHOLE, louder, key)[1].loss.mean
  assert not np.allclose(other, quiet[1].loss.mean, rtol=1e-5)


def test_spec_augment_is_on_in_training_and_off_in_evaluation():
  batch = toys.batch(ROWS)
  losses = [
    float(gradients(WHOLE, batch, jax.random.key(seed))[1].loss.mean)
    for seed in (0, 0, 1)
  ]
  assert losses[0] == losses[1] != losses[2]
  shown = [
    evaluate(variables(), batch, jax.random.key(seed)) for seed in (0, 1)
  ]
  jax.tree.map(np.testing.assert_array_equal, *shown)


def test_figures_are_those_of_the_embeddings():
  batch = toys.batch(ROWS, missing=(2,))
  shown = evaluate(variables(), batch, jax.random.key(0)).metrics
  audio, text = embed(variables(), *(batch[k] for k in objective.BATCH_KEYS))
  valid = np.arange(ROWS) != 2
  losses = contrastive.pair_losses(audio, text, scale=10.0, valid=valid)
  np.testing.assert_allclose(
    shown['mulan/loss'].mean, np.mean(losses[valid]), rtol=1e-4
  )
  np.testing.assert_allclose(shown['mulan/temperature'].mean, 0.1, rtol=1e-5)
  products = np.asarray(text @ audio.T)[valid][:, valid]
  best = np.argmax(products, axis=1) == np.arange(ROWS - 1)
  recall = shown['mulan/recall_at_1/text_to_audio']
  np.testing.assert_allclose(recall.mean, best.mean(), rtol=1e-6)
  assert recall.weight == ROWS - 1


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda b: b.pop('text_tokens'), r"lacks \['text_tokens'\]"),
    (
      lambda b: b.update(waveform=b['waveform'][:, :-1]),
      'Crops of 1599 samples.*hears 1600',
    ),
  ],
)
def test_a_batch_that_does_not_fit_is_an_error(change, message):
  batch = toys.batch(ROWS)
  change(batch)
  with pytest.raises(ValueError, match=message):
    WHOLE.init(jax.random.key(0), batch)


def test_an_unknown_form_is_an_error():
  with pytest.raises(ValueError, match="form is 'triplet'"):
    objective.MulanObjective(model=MODEL, form='triplet')


def test_a_bundle_brings_towers_back(tmp_path):
  bundle.publish(tmp_path, WHOLE.bundle(variables()))
  loaded = bundle.load(tmp_path, kind='mulan')
  assert loaded.config == MODEL and loaded.stream_out is None
  towers = model.load_towers(tmp_path)
  batch = toys.batch(3)
  audio, text = embed(variables(), *(batch[k] for k in objective.BATCH_KEYS))
  np.testing.assert_allclose(
    towers.embed_audio(batch['waveform'], batch['sample_mask']),
    audio,
    atol=1e-5,
  )
  texts = [
    ' '.join(toys.VOCABULARY.tokens[i] for i in row[1 : mask.sum() - 1])
    for row, mask in zip(batch['text_tokens'], batch['text_mask'])
  ]
  np.testing.assert_allclose(
    towers.embed_text([t.replace(' ##', '') for t in texts]), text, atol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize('form', contrastive.FORMS)
def test_some_steps_learn_the_pairs_of_one_batch(form):
  training = Training(
    objective=dataclasses.replace(
      IN_PARTS, model=toys.config(augment=False), form=form
    ),
    optimizer=optimizers.adamw(learning_rate=3e-3, clip_norm=1.0),
  )
  batch = toys.batch(ROWS)
  state = meta.unbox(jax.jit(training.init, static_argnums=0)(0, batch))
  step = jax.jit(training.train_step, donate_argnums=0)
  evaluate = jax.jit(training.evaluate)
  before = evaluate(state, batch).metrics['mulan/recall_at_1/text_to_audio']
  temperatures = []
  for _ in range(120):
    state, metrics = step(state, batch)
    temperatures.append(float(metrics['mulan/temperature'].mean))
  after = evaluate(state, batch).metrics['mulan/recall_at_1/text_to_audio']
  assert before.mean < 0.4 < 0.8 < after.mean
  assert 0 < min(temperatures) and max(temperatures) <= 1
  assert temperatures[-1] != temperatures[0]
