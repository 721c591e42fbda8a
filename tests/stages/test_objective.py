# SPDX-License-Identifier: Apache-2.0
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle as bundles
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.training.objective import Objective
from musiclm_jax.training.step import Training
from tests.stages import toys

CONFIG = toys.config()
LAYOUT = CONFIG.layout
OBJECTIVE = StageObjective(model=CONFIG, z_loss_weight=0.0)
VARIABLES = {'params': toys.params(CONFIG)}
BATCH = toys.batch(3)
KEY = jax.random.key(0)


def evaluate(objective, batch=BATCH):
  return jax.jit(objective.evaluate)(VARIABLES, batch, KEY).metrics


def loss_of(objective, batch=BATCH, key=KEY):
  return jax.jit(objective.loss)(VARIABLES, batch, key).loss.mean


def test_it_is_an_objective():
  assert isinstance(OBJECTIVE, Objective)
  assert not OBJECTIVE.batch_is_coupled


def test_bits_per_code_are_those_of_the_softmax_over_legal_codes():
  found = evaluate(OBJECTIVE)
  logits = toys.forward(CONFIG, VARIABLES['params'], LAYOUT.pack(toys.codes(3)))
  logits = np.asarray(logits, np.float64)
  wanted = toys.codes(3)['fast'][:, :, :2]
  probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  bits = -np.log2(np.take_along_axis(probability, wanted[..., None], -1))[
    ..., 0
  ]
  accuracy = logits.argmax(-1) == wanted
  for name, level in (('fast', slice(0, 2)), ('level_1', 0), ('level_2', 1)):
    for figure, values in (('bits_per_code', bits), ('accuracy', accuracy)):
      got = found[f'stage/toy/{figure}/{name}']
      np.testing.assert_allclose(got.mean, values[..., level].mean(), rtol=1e-5)
      assert got.weight == values[..., level].size


def test_softmax_over_the_vocabulary_asks_for_more_bits():
  whole = StageObjective(
    model=CONFIG, z_loss_weight=0.0, softmax_over='vocabulary'
  )
  name = 'stage/toy/bits_per_code/fast'
  legal, vocabulary = (evaluate(o)[name].mean for o in (OBJECTIVE, whole))
  assert legal < vocabulary
  # A fresh model spreads over 11 codes of 44.
  assert abs(vocabulary - legal - math.log2(44 / 11)) < 1


def test_z_loss_adds_the_squared_log_normalizer():
  def loss(weight):
    objective = StageObjective(
      model=toys.config(dropout_rate=0.0), z_loss_weight=weight
    )
    return loss_of(objective)

  logits = toys.forward(CONFIG, VARIABLES['params'], LAYOUT.pack(toys.codes(3)))
  log_z = jax.nn.logsumexp(logits, axis=-1)
  np.testing.assert_allclose(
    loss(0.5) - loss(0.0), 0.5 * jnp.mean(log_z**2), rtol=1e-5
  )


def test_frames_that_a_clip_lacks_count_for_nothing():
  mask = np.ones((3, 12), bool)
  mask[1, 7:] = False
  other = dict(BATCH)
  other[batches.codes_key('fast')] = np.where(
    mask[..., None], BATCH[batches.codes_key('fast')], 3
  )
  found = [
    evaluate(OBJECTIVE, batch | {batches.frame_mask_key('fast'): mask})
    for batch in (dict(BATCH), other)
  ]
  for name, figure in found[0].items():
    np.testing.assert_array_equal(figure.mean, found[1][name].mean)
  assert found[0]['stage/toy/accuracy/fast'].weight == 2 * (3 * 12 - 5)


def test_dropped_conditions_are_not_heard_and_others_are():
  objective = StageObjective(
    model=toys.config(dropout_rate=0.0),
    dropped_streams=('clip',),
    drop_rate=0.99999,
  )

  def loss(stream):
    batch = dict(BATCH)
    key = batches.codes_key(stream)
    batch[key] = (batch[key] + 1) % 5
    return loss_of(objective, batch)

  wanted = loss_of(objective)
  np.testing.assert_array_equal(loss('clip'), wanted)
  assert not np.allclose(loss('slow'), wanted, atol=1e-4)
  assert not np.allclose(
    objective.evaluate(VARIABLES, BATCH, KEY)
    .metrics['stage/toy/bits_per_code/fast']
    .mean
    * math.log(2),
    wanted,
    atol=1e-4,
  )


def test_whole_rows_are_as_good_as_the_codes_they_are_made_of():
  mask = np.arange(12)[None] < [[12], [7], [12]]
  codes = BATCH | {batches.frame_mask_key('fast'): mask}
  tokens = LAYOUT.pack(toys.codes(3), frame_masks={'fast': mask})
  found = evaluate(OBJECTIVE, {batches.TOKENS: tokens})
  for name, figure in evaluate(OBJECTIVE, codes).items():
    np.testing.assert_array_equal(found[name].mean, figure.mean)


def test_without_a_key_the_loss_is_that_of_nothing_dropped():
  objective = StageObjective(
    model=CONFIG,
    z_loss_weight=0.0,
    dropped_streams=('clip',),
    drop_rate=0.9,
  )
  bits = evaluate(objective)['stage/toy/bits_per_code/fast'].mean
  np.testing.assert_allclose(
    loss_of(objective, key=None), bits * math.log(2), rtol=1e-6
  )
  assert not np.allclose(loss_of(objective), bits * math.log(2), rtol=1e-3)


def test_dropout_follows_the_key():
  losses = [
    float(loss_of(OBJECTIVE, key=jax.random.key(seed))) for seed in (0, 0, 1)
  ]
  assert losses[0] == losses[1] != losses[2]


def test_bundle_is_ready_to_decode_and_names_what_it_was_trained_on(tmp_path):
  config = toys.config(scan_layers=True)
  objective = StageObjective(model=config)
  variables = jax.jit(objective.init)(KEY, BATCH)
  bundles.publish(tmp_path, objective.bundle(variables))
  loaded = bundles.load(tmp_path, kind='stage')
  assert loaded.config == config.to_decode()
  assert [stream.name for stream in loaded.streams_in] == [
    'clip',
    'slow',
    'fast',
  ]
  logits = toys.forward(
    loaded.config, loaded.weights['params'], LAYOUT.pack(toys.codes(3))
  )
  assert jnp.all(jnp.isfinite(logits))


def test_contradictions_are_errors():
  with pytest.raises(ValueError, match="'everything'; choose"):
    StageObjective(model=CONFIG, softmax_over='everything')
  with pytest.raises(ValueError, match='set both dropped_streams'):
    StageObjective(model=CONFIG, drop_rate=0.1)
  with pytest.raises(ValueError, match=r"lacks \['codes/slow'\]"):
    batch = dict(BATCH)
    del batch[batches.codes_key('slow')]
    OBJECTIVE.evaluate(VARIABLES, batch, KEY)


def test_tiny_language_is_learned():
  """Codes that follow from the condition and from each other."""
  made = toys.codes(16)
  clip = made['clip'][:, :1, :1]
  made['fast'][:] = (clip + np.arange(12)[None, :, None] * 3) % 11
  made['fast'][:, :, 1] = (made['fast'][:, :, 0] * 2) % 11
  batch = {batches.codes_key(name): codes for name, codes in made.items()}
  training = Training(
    objective=StageObjective(
      model=toys.config(embed_dim=32, mlp_dim=48, dropout_rate=0.0)
    ),
    optimizer=optax.adam(0.01),
  )
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  step = jax.jit(training.train_step)
  for _ in range(120):
    state, metrics = step(state, batch)
  assert metrics['stage/toy/accuracy/fast'].mean > 0.97
  assert metrics['stage/toy/bits_per_code/fast'].mean < 0.3
