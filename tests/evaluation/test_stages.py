# SPDX-License-Identifier: Apache-2.0
"""Bits per code are the model's own, clip by clip, beside the n-grams'."""

import dataclasses

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.evaluation import ngram, stages
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.stages.spec import StageSpec, Take
from tests.stages import toys

CONFIG = toys.config(dropout_rate=0.0)
WEIGHTS = {'params': toys.params(CONFIG)}
BASELINES = ngram.Baselines.fit(
  list(toys.codes(5, seed=3)['fast']), codebook_size=11
)


def window_batch(num_rows, *, seed, num_whole=None):
  """Rows of the toys' codes; those after `num_whole` are masked out."""
  batch = toys.batch(num_rows, seed=seed)
  for stream, frames in toys.FRAMES.items():
    mask = np.ones((num_rows, frames), bool)
    mask[num_rows if num_whole is None else num_whole :] = False
    batch[batches.frame_mask_key(stream)] = mask
  return batch


@pytest.fixture(scope='module')
def figures():
  clips = [
    stages.Clip(tune='a', windows=(window_batch(3, seed=0),)),
    stages.Clip(
      tune='a',
      windows=(
        window_batch(3, seed=1),
        window_batch(3, seed=2, num_whole=1),
      ),
    ),
    stages.Clip(tune='b', windows=(window_batch(3, seed=3, num_whole=2),)),
  ]
  return stages.evaluate(CONFIG, WEIGHTS, clips, baselines=BASELINES)


def test_the_stages_bits_are_those_of_its_objective(figures):
  objective = StageObjective(model=CONFIG)
  found = jax.jit(objective.evaluate)(
    WEIGHTS, window_batch(3, seed=0), jax.random.key(0)
  ).metrics
  for level in range(2):
    np.testing.assert_allclose(
      figures.bits[stages.STAGE][0, level] / figures.num_codes[0],
      found[f'stage/toy/bits_per_code/level_{level + 1}'].mean,
      rtol=1e-5,
    )
  assert figures.num_codes.tolist() == [3 * 12, 4 * 12, 2 * 12]
  assert figures.tunes == ('a', 'a', 'b')


def test_the_baselines_are_of_the_levels_that_the_stage_makes(figures):
  codes = toys.codes(3, seed=3)['fast'][:2]
  for name in (ngram.UNIGRAM, ngram.IN_TIME, ngram.IN_DEPTH):
    wanted = sum(BASELINES.bits(window)[name][:, :2].sum(0) for window in codes)
    np.testing.assert_allclose(figures.bits[name][2], wanted)


def test_a_figure_is_the_mean_over_all_codes(figures):
  bits = figures.bits[stages.STAGE]
  np.testing.assert_allclose(
    figures.estimate(stages.STAGE, level=1).mean, bits[:, 1].sum() / (9 * 12)
  )
  whole = figures.estimate(stages.STAGE)
  np.testing.assert_allclose(whole.mean, bits.sum() / (9 * 12 * 2))
  assert whole.num_clips == 2  # Tunes are drawn, not their clips.
  difference = figures.estimate(stages.STAGE, minus=ngram.UNIGRAM)
  np.testing.assert_allclose(
    difference.mean,
    whole.mean - figures.estimate(ngram.UNIGRAM).mean,
    rtol=1e-9,
  )


def test_the_page_names_levels_and_compares_with_the_best_baseline(figures):
  text = stages.to_markdown(figures)
  assert "Stage 'toy', bits per code (3.45943 without a model)" in text
  assert (
    '| level | unigram | bigram in time | bigram in depth | stage |' in text
  )
  for row in ('| 1 |', '| 2 |', '| all |'):
    assert row in text
  free = dataclasses.replace(
    figures,
    bits=figures.bits | {ngram.IN_TIME: np.zeros_like(figures.bits['stage'])},
  )
  (row,) = [r for r in stages.to_markdown(free).split('\n') if '| 1 ' in r]
  stage, difference = row.split(' | ')[-2:]
  assert f'+{stage.split()[0]}' == difference.split()[0]


def test_the_json_holds_every_clip(figures):
  fields = stages.to_json(figures)
  assert fields['levels'] == [1, 2]
  assert len(fields['bits'][stages.STAGE]) == 3
  assert set(fields['bits_per_code']['unigram']['levels'][1]) >= {'mean', 'low'}


def test_codes_without_repeats_are_counted_and_compared_as_runs():
  take = Take(stream=toys.SLOW, distinct_share='2/3')
  spec = StageSpec(name='runs', inputs=(), output=take, window_seconds=2)
  config = dataclasses.replace(CONFIG, spec=spec)
  codes = np.asarray([[4, 4, 4, 0, 0, 4], [1, 2, 1, 1, 1, 2]], np.int32)
  batch = {
    batches.codes_key('slow'): codes[..., None],
    batches.frame_mask_key('slow'): np.arange(6)[None] < [[6], [5]],
  }
  objective = StageObjective(model=config)
  variables = meta.unbox(objective.init(jax.random.key(0), batch))
  baselines = ngram.Baselines.fit(
    [np.asarray([[4], [0], [4], [1], [2], [1]])], codebook_size=7
  )
  found = stages.evaluate(
    config,
    variables,
    [stages.Clip(tune='a', windows=(batch,))],
    baselines=baselines,
  )
  assert found.num_codes.tolist() == [6]
  metrics = objective.evaluate(variables, batch, jax.random.key(0)).metrics
  np.testing.assert_allclose(
    found.estimate(stages.STAGE).mean,
    metrics['stage/runs/bits_per_code/slow'].mean,
    rtol=1e-5,
  )
  runs = (np.asarray([[4], [0], [4]]), np.asarray([[1], [2], [1]]))
  wanted = sum(baselines.bits(row)[ngram.IN_TIME].sum() for row in runs)
  np.testing.assert_allclose(found.bits[ngram.IN_TIME].sum(), wanted)
