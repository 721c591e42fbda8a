# SPDX-License-Identifier: Apache-2.0
"""What a tiny stage has learnt by heart is found; what it never saw is not."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.evaluation import memorization, memorization_report
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.stages import lm, semantic
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.streams import TokenStream
from musiclm_jax.training.step import Training

CLIP = TokenStream(name='mulan', rate_hz=None, num_codebooks=3, codebook_size=7)
CODES = TokenStream(
  name='semantic', rate_hz=5, num_codebooks=1, codebook_size=29
)
FRAMES, EXAMPLES = 25, 17
CONFIG = memorization.MemorizationConfig(
  prompt_frames=(0, 5), num_generated=19, max_rows=6, false_positive_rate=1e-3
)
CENTROIDS = np.random.default_rng(5).normal(size=(CODES.codebook_size, 3))


def windows(seed, *, split='train'):
  """Random codes of whole windows, each of its own tune."""
  draws = np.random.default_rng(seed)
  batch = {}
  for stream, frames in ((CLIP, 1), (CODES, FRAMES)):
    shape = (EXAMPLES, frames, stream.num_codebooks)
    batch[batches.codes_key(stream.name)] = draws.integers(
      stream.codebook_size, size=shape
    ).astype(np.int32)
    batch[batches.frame_mask_key(stream.name)] = np.ones(shape[:2], bool)
  return memorization.Examples(
    split=split, batch=batch, tunes=tuple(map(str, range(EXAMPLES)))
  )


def make_decoder(*, num_steps):
  """A stage that was trained on `windows(0)` so many steps."""
  objective = StageObjective(
    model=lm.StageLMConfig(
      spec=semantic.semantic(
        conditions=[CLIP], semantic=CODES, window_seconds=FRAMES // 5
      ),
      transformer=TransformerConfig(
        num_layers=2, num_heads=2, embed_dim=32, mlp_dim=48, dropout_rate=0.0
      ),
    ),
  )
  batch = dict(windows(0).batch)
  training = Training(objective=objective, optimizer=optax.adam(0.01))
  state = jax.jit(lambda: meta.unbox(training.init(0, batch)))()
  step = jax.jit(training.train_step)
  for _ in range(num_steps):
    state, _ = step(state, batch)
  variables = training.published_variables(state)
  config, params = lm.to_decode(objective.model, variables['params'])
  return StageDecoder(config=config, params=params)


@pytest.fixture(scope='module')
def untrained():
  return make_decoder(num_steps=0)


def evaluate(decoder):
  return memorization.evaluate(
    decoder,
    [windows(0), windows(1, split='test')],
    centroids=CENTROIDS,
    config=CONFIG,
  )


@pytest.mark.slow
def test_what_was_learnt_by_heart_is_flagged_and_what_was_not_is_not():
  report = evaluate(make_decoder(num_steps=200))
  *train, control, prompted_control = report.prompts
  for figures in train:
    means = memorization.summary(figures, threshold=report.threshold)
    assert means['exact'] > 0.9
    assert means['approximate'] >= means['exact']
    assert means['lowest_cost'] < report.threshold / 3
    assert means['entropy_bits_of_matches'] > 2
  for figures in (control, prompted_control):
    means = memorization.summary(figures, threshold=report.threshold)
    assert means['exact'] == 0
    assert means['approximate'] < 0.1


def test_an_untrained_stage_matches_nothing_and_the_report_says_so(
  untrained, tmp_path
):
  report = evaluate(untrained)
  assert [(f.split, f.prompt_frames) for f in report.prompts] == [
    ('train', 0),
    ('train', 5),
    ('test', 0),
    ('test', 5),
  ]
  assert report.num_negatives == 4 * EXAMPLES * (EXAMPLES - 1)
  for figures in report.prompts:
    assert not figures.exact.any()
    assert np.mean(figures.costs < report.threshold) < 0.1
  memorization_report.write(report, directory=tmp_path, about='A toy.')
  fields = json.loads((tmp_path / 'memorization.json').read_text())
  assert fields['threshold'] == pytest.approx(report.threshold)
  assert fields['config']['num_generated'] == 19
  np.testing.assert_allclose(
    fields['prompts'][3]['costs'], report.prompts[3].costs, rtol=1e-6
  )
  assert fields['prompts'][3]['exact'] == EXAMPLES * [False]
  assert fields['prompts'][3]['summary']['exact'] == 0
  text = (tmp_path / 'memorization.md').read_text()
  assert '| test | 17 | 5 | 0.000 [0.000, 0.000] |' in text
  assert '1,088 pairs' in text and '0.85' in text


def test_continuations_are_the_likeliest_codes_after_the_true_ones(untrained):
  batch = windows(0).batch
  made = memorization.continuations(
    untrained, batch, prompt_frames=5, num_generated=19, max_rows=6
  )
  layout = untrained.config.layout
  codes = batch[batches.codes_key('semantic')].copy()
  codes[:, 5:24, 0] = made
  tokens = layout.pack(
    {'mulan': batch[batches.codes_key('mulan')], 'semantic': codes}
  )
  logits = jax.jit(lm.StageLM(untrained.config).apply)(
    {'params': untrained.params}, tokens
  )
  best = np.asarray(logits).argmax(axis=-1)[:, 5:24, 0]
  np.testing.assert_array_equal(made, best)


def test_pairs_that_do_not_belong_together_are_of_two_tunes():
  first, second = memorization.negative_pairs(['a', 'a', 'b'], most=10)
  assert list(zip(first, second)) == [(1, 2), (2, 0), (0, 2), (2, 1)]
  first, second = memorization.negative_pairs(['a', 'a', 'b'], most=3)
  assert list(zip(first, second)) == [(1, 2), (2, 0), (0, 2)]
  with pytest.raises(ValueError, match='of one tune'):
    memorization.negative_pairs(['a', 'a'], most=10)


@pytest.mark.parametrize(
  ('rate', 'wanted'), [(0.01, 0), (0.1, 9), (0.11, 10), (0.101, 10)]
)
def test_fewer_pairs_than_the_rate_match(rate, wanted):
  negatives = np.random.default_rng(0).permutation(100).astype(float)
  threshold = memorization.calibrate(negatives, rate=rate)
  matching = np.count_nonzero(negatives < threshold)
  assert matching == wanted == threshold
  assert matching / 100 < rate


def test_entropy_and_shares_by_hand():
  figures = memorization.PromptFigures(
    split='train',
    prompt_frames=0,
    tunes=('a', 'b', 'c', 'd'),
    exact=np.array([True, False, False, False]),
    costs=np.array([0.0, 0.5, 0.9, 2.0]),
    entropies=np.array([1.0, 3.0, 5.0, 7.0]),
  )
  assert memorization.summary(figures, threshold=0.7) == {
    'exact': 0.25,
    'approximate': 0.5,
    'approximate_at_paper_threshold': 0.5,
    'entropy_bits': 4.0,
    'entropy_bits_of_matches': 2.0,
    'lowest_cost': 0.0,
  }
  assert memorization._entropy_bits(np.array([3, 3, 0, 1])) == 1.5


def test_what_does_not_fit_the_protocol_is_refused(untrained):
  longer = dataclasses.replace(CONFIG, prompt_frames=(0, 7))
  with pytest.raises(ValueError, match=r'25 frames .* 26\s+frames \(7 given'):
    memorization.evaluate(
      untrained, [windows(0)], centroids=CENTROIDS, config=longer
    )
  short = windows(0)
  short.batch[batches.frame_mask_key('semantic')][3, 20:] = False
  with pytest.raises(ValueError, match=r"1 of 17 examples of split 'train'"):
    memorization.evaluate(
      untrained, [short], centroids=CENTROIDS, config=CONFIG
    )


def test_a_stage_without_repeats_is_refused(untrained):
  """Its codes are of runs, and the protocol's of frames."""
  spec = untrained.config.spec
  runs = dataclasses.replace(spec.output, distinct_share='1/2')
  config = dataclasses.replace(
    untrained.config, spec=dataclasses.replace(spec, output=runs)
  )
  with pytest.raises(ValueError, match='makes codes without repeats'):
    memorization.evaluate(
      dataclasses.replace(untrained, config=config),
      [windows(0)],
      centroids=CENTROIDS,
      config=CONFIG,
    )
