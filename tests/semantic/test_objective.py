# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.quantization import gumbel
from musiclm_jax.semantic import objective, w2v_bert
from musiclm_jax.semantic.masking import MaskingConfig
from musiclm_jax.semantic.objective import LossConfig, W2vBertObjective
from musiclm_jax.training import optimizers
from musiclm_jax.training.objective import Objective
from musiclm_jax.training.step import Training
from tests.semantic import toys

OBJECTIVE = W2vBertObjective(
  model=toys.CONFIG,
  masking=MaskingConfig(start_rate=0.1, span_frames=4),
  losses=LossConfig(num_distractors=7),
)
BATCH = toys.batch()
KEY = jax.random.key(5)


@pytest.fixture(scope='module')
def trained_once():
  """Loss and gradient of a batch."""

  def loss(params, collections, batch):
    variables = {'params': params, **collections}
    output = OBJECTIVE.loss(variables, batch, KEY)
    return output.loss.total, output

  variables = dict(toys.variables())
  params = variables.pop('params')
  gradients, output = jax.jit(jax.grad(loss, has_aux=True))(
    params, variables, BATCH
  )
  return gradients, output


evaluate = jax.jit(OBJECTIVE.evaluate)


def test_it_is_an_objective_whose_batch_is_coupled():
  assert isinstance(OBJECTIVE, Objective)
  assert OBJECTIVE.batch_is_coupled
  with pytest.raises(ValueError, match='couples the examples'):
    Training(
      objective=OBJECTIVE,
      optimizer=optimizers.adam(learning_rate=0.1),
      num_microbatches=2,
    )


def reference_loss(context, codebook, codes, distractors, temperature):
  """Equation 3, frame by frame, with each distractor as often as it counts."""
  quantized = codebook[codes]
  losses = np.zeros(context.shape[:2])
  for row, frame in np.ndindex(losses.shape):
    right = context[row, frame]

    def similarity(other, right=right):
      cosine = right @ other
      return cosine / np.linalg.norm(right) / np.linalg.norm(other)

    scores = [similarity(other) / temperature for other in quantized[row]]
    terms = np.exp(scores) * distractors[row, frame]
    terms[codes[row] == codes[row, frame]] = 0
    all_terms = np.exp(scores[frame]) + terms.sum()
    losses[row, frame] = -np.log(np.exp(scores[frame]) / all_terms)
  return losses


def test_the_contrastive_loss_is_equation_3_in_float64():
  draws = np.random.default_rng(0)
  context, codebook = draws.normal(size=(2, 13, 7)), draws.normal(size=(5, 7))
  codes = draws.integers(0, 5, (2, 13))
  distractors = draws.integers(0, 3, (2, 13, 13)) * 1.5
  distractors[:, np.arange(13), np.arange(13)] = 0
  distractors[1, 5] = 0  # Nobody to be told from.
  wanted = reference_loss(context, codebook, codes, distractors, 0.1)
  with jax.enable_x64():
    got, nearest = objective.contrastive_loss(
      jnp.asarray(context),
      jnp.asarray(codebook[codes]),
      codes=jnp.asarray(codes),
      distractors=jnp.asarray(distractors),
      temperature=0.1,
    )
    got, nearest = np.asarray(got), np.asarray(nearest)
  np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
  assert got[1, 5] == 0 and nearest[1, 5]
  assert 0 < np.mean(nearest) < 1


def test_a_frame_of_the_same_code_is_no_distractor():
  context = jax.random.normal(KEY, (1, 13, 7))
  loss, nearest = objective.contrastive_loss(
    context,
    jnp.ones((1, 13, 7)),
    codes=jnp.zeros((1, 13), int),
    distractors=jnp.where(jnp.eye(13, dtype=bool), 0, 100 / 12)[None],
    temperature=0.1,
  )
  np.testing.assert_allclose(loss, 0, atol=1e-6)
  assert nearest.all()


def test_cross_entropy_is_by_hand():
  logits = jnp.log(jnp.array([[[0.2, 0.8], [0.5, 0.5]]]))
  nats = objective.cross_entropy(logits, jnp.array([[1, 0]]))
  np.testing.assert_allclose(nats, -np.log([[0.8, 0.5]]), rtol=1e-6)


def test_held_codes_are_those_of_the_last_visible_frame():
  codes = jnp.array([[5, 6, 7, 8, 9]])
  held, is_held = objective.held_codes(
    codes,
    masked=jnp.array([[True, False, True, True, False]]),
    frame_mask=jnp.array([[True, True, True, True, False]]),
  )
  np.testing.assert_array_equal(is_held, [[False, True, True, True, True]])
  np.testing.assert_array_equal(held[:, 1:], [[6, 6, 6, 6]])


def test_the_loss_is_the_weighted_sum_of_its_terms(trained_once):
  _, output = trained_once
  terms = {
    name: float(output.metrics[f'w2v_bert/{name}'].mean)
    for name in ('contrastive', 'diversity', 'mlm')
  }
  wanted = terms['mlm'] + terms['contrastive'] + 0.1 * terms['diversity']
  assert float(output.loss.mean) == pytest.approx(wanted, rel=1e-6)
  assert output.loss.weight == 1
  assert output.metrics['w2v_bert/temperature'].mean == 2.0
  assert output.updates[gumbel.SCHEDULE]['quantizer']['num_steps'] == 1


def test_every_parameter_takes_a_gradient(trained_once):
  gradients, _ = trained_once
  still = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
    if not np.any(leaf)
  ]
  assert not still
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_what_padding_holds_changes_no_figure():
  variables = toys.variables()
  mask = BATCH[batches.SAMPLE_MASK].copy()
  mask[0, 13 * toys.HOP :] = False
  noisy = np.where(mask, BATCH[batches.WAVEFORM], 0.5).astype(np.float32)
  clean = np.where(mask, BATCH[batches.WAVEFORM], 0)
  one, two = (
    evaluate(variables, {**BATCH, 'waveform': w, 'sample_mask': mask}, KEY)
    for w in (clean, noisy)
  )
  jax.tree.map(np.testing.assert_array_equal, one, two)
  # The frames of the second clip and 13 of the first.
  assert one.histograms['w2v_bert/codes'].counts.sum() == 31 + 13


def test_figures_of_health_are_those_of_the_codes():
  variables = toys.variables()
  found = evaluate(variables, BATCH, KEY)
  again = evaluate(variables, BATCH, KEY)
  jax.tree.map(np.testing.assert_array_equal, found, again)
  sample_mask = jnp.asarray(BATCH[batches.SAMPLE_MASK])
  masked = OBJECTIVE._masked(BATCH, jax.random.split(KEY)[0])
  prediction = jax.jit(w2v_bert.W2vBert(toys.CONFIG).apply)(
    variables,
    BATCH[batches.WAVEFORM],
    sample_mask=sample_mask,
    span_mask=masked,
  )
  codes = np.asarray(prediction.quantized.codes)
  hidden = np.asarray(masked)
  assert 0 < hidden.sum() < hidden.size
  for name, values in (('codes', codes), ('targets', codes[hidden])):
    np.testing.assert_array_equal(
      found.histograms[f'w2v_bert/{name}'].counts,
      np.bincount(values.ravel(), minlength=11),
    )
  np.testing.assert_allclose(
    found.histograms['w2v_bert/soft_codes'].counts,
    prediction.quantized.probabilities.sum((0, 1)),
    rtol=1e-4,
  )
  right = np.asarray(prediction.logits).argmax(-1) == codes
  figures = found.metrics
  assert figures['w2v_bert/mlm_accuracy'].mean == pytest.approx(
    right[hidden].mean()
  )
  assert figures['w2v_bert/mlm'].weight == hidden.sum()
  assert figures['w2v_bert/masked_share'].mean == pytest.approx(hidden.mean())


def test_the_bundle_holds_separate_blocks_and_no_schedule():
  scanned = toys.scanned()
  contents = dataclasses.replace(OBJECTIVE, model=scanned).bundle(
    toys.variables(scanned)
  )
  assert contents.kind == 'w2v_bert'
  assert contents.stream_out is None
  assert contents.config == toys.CONFIG
  assert set(contents.weights) == {'params'}
  assert set(contents.weights['params']['mlm']) >= {'block_0', 'block_1'}


def test_a_published_model_is_loaded_by_its_kind(tmp_path):
  bundle.publish(tmp_path, OBJECTIVE.bundle(toys.variables()))
  loaded = bundle.load(tmp_path, kind='w2v_bert')
  assert loaded.config == toys.CONFIG
  jax.tree.map(
    np.testing.assert_array_equal,
    loaded.weights['params'],
    dict(toys.variables()['params']),
  )


@pytest.mark.slow
def test_it_learns_a_batch_by_heart():
  """Below half of the entropy of the codes that are hidden."""
  model = toys.config(embed_dim=32)
  quantizer = dataclasses.replace(model.quantizer, codebook_size=61)
  model = dataclasses.replace(model, quantizer=quantizer)
  training = Training(
    objective=dataclasses.replace(OBJECTIVE, model=model),
    # Codes that move could make the prediction easy.
    optimizer=optimizers.slowed(
      optimizers.adam(learning_rate=3e-3, clip_norm=1.0),
      parts=('subsampling', 'quantizer'),
      factor=0.005,
    ),
  )
  batch = toys.batch(num_rows=8)
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  step = jax.jit(training.train_step, donate_argnums=0)
  found = []
  for _ in range(300):
    state, metrics = step(state, batch)
    found.append(float(metrics['w2v_bert/mlm'].mean))
  perplexity = float(metrics['w2v_bert/targets/perplexity'].mean)
  assert perplexity > 3
  assert np.mean(found[-10:]) < 0.5 * np.log(perplexity)
