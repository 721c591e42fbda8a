# SPDX-License-Identifier: Apache-2.0
"""A stage under t5x itself: the same loss, steps and logits as under ours."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec

pytest.importorskip('t5x', reason='t5x is not on the path: see docs/t5x.md')

from t5x import models, optimizers, partitioning, trainer  # noqa: E402
from t5x import utils as t5x_utils  # noqa: E402

from musiclm_jax import batches  # noqa: E402
from musiclm_jax.checkpoints import bundle as bundles  # noqa: E402
from musiclm_jax.data import converters  # noqa: E402
from musiclm_jax.inference import decoding, sampling  # noqa: E402
from musiclm_jax.integrations import t5x as integration  # noqa: E402
from musiclm_jax.integrations import t5x_checkpoint  # noqa: E402
from musiclm_jax.stages import lm  # noqa: E402
from tests.data import token_toys  # noqa: E402
from tests.integrations import toys  # noqa: E402

pytestmark = [
  pytest.mark.slow,  # TensorFlow alone takes ten seconds to import.
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),  # t5x's own.
]

ROOT = pathlib.Path(__file__).parents[2]
KEY = jax.random.PRNGKey(3)
BATCH = toys.rows(6)


def model(objective=toys.OBJECTIVE, **options):
  return integration.StageModel(
    objective,
    optimizer_def=optimizers.adamw(0.01),
    feature_converter_cls=functools.partial(
      converters.StageConverter, toys.LAYOUT
    ),
    **options,
  )


def gradient(function, batch=BATCH):
  """The loss, and the gradient of every parameter."""
  return jax.jit(jax.value_and_grad(function, has_aux=True))(
    toys.PARAMS, batch, KEY
  )


def test_loss_figures_and_gradients_are_those_of_the_objective():
  objective = dataclasses.replace(
    toys.OBJECTIVE, dropped_streams=('clip',), drop_rate=0.5
  )

  def ours(params, batch, key):
    output = objective.loss({'params': params}, batch, key)
    return output.loss.mean, output.metrics

  assert isinstance(model(), models.BaseModel)
  (loss, figures), slopes = gradient(model(objective).loss_fn)
  (wanted, means), wanted_slopes = gradient(ours)
  assert loss == wanted == figures.pop('loss').compute()
  assert figures.keys() == means.keys()
  for name, figure in figures.items():
    np.testing.assert_array_equal(figure.compute(), means[name].mean)
  jax.tree.map(np.testing.assert_array_equal, slopes, wanted_slopes)


def test_gradients_of_microbatches_add_up_with_a_constant_factor():
  output = toys.LAYOUT.output
  num_codes = 6 * output.num_frames * output.take.count
  _, wanted = gradient(model().loss_fn)
  state = initializer(model(), partitioner()).from_scratch(KEY)
  state = state.replace_params(toys.PARAMS)
  found, _, _ = trainer.accumulate_grads_microbatched(
    model(loss_normalizing_factor=float(num_codes)), state, BATCH, KEY, 3
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6), found, wanted
  )


def partitioner():
  """t5x's mesh of CPU devices is data=1, model=8."""
  return integration.StagePartitioner(
    num_partitions=8,
    logical_axis_rules=partitioning.standard_logical_axis_rules(),
  )


def initializer(made, parts):
  return t5x_utils.TrainStateInitializer(
    optimizer_def=made.optimizer_def,
    init_fn=made.get_initial_variables,
    input_shapes={name: rows.shape for name, rows in BATCH.items()},
    partitioner=parts,
  )


WIDE = dataclasses.replace(
  toys.OBJECTIVE,
  model=dataclasses.replace(
    toys.OBJECTIVE.model,
    transformer=dataclasses.replace(
      toys.OBJECTIVE.model.transformer, num_heads=8, mlp_dim=24, head_dim=2
    ),
  ),
)


def test_every_axis_has_a_rule_and_what_does_not_divide_stays_whole():
  made = initializer(model(WIDE), partitioner())
  axes = traverse_util.flatten_dict(made.train_state_axes.params, sep='/')
  names = {name for name, _ in partitioning.standard_logical_axis_rules()}
  variables = jax.eval_shape(WIDE.init, KEY, BATCH)
  params_axes = integration.with_params_axes(variables)['params_axes']
  for leaf in jax.tree.leaves(
    params_axes, is_leaf=lambda leaf: hasattr(leaf, 'names')
  ):
    assert set(leaf.names) <= names | {None}
  body = 'transformer/layers'
  # 8 heads, 24 of the hidden width; 44 codes, 50 ids, layers on top.
  assert axes[f'{body}/attention/query_key_value/kernel'] == PartitionSpec(
    None, None, 'model', None, None
  )
  assert axes[f'{body}/feedforward/narrow/kernel'] == PartitionSpec(
    None, None, 'model'
  )
  assert axes['inputs/table'] == PartitionSpec(None, None)
  whole = partitioning.PjitPartitioner.get_mesh_axes(
    partitioner(), made.global_train_state_shape
  )
  assert whole.params['inputs']['table'] == PartitionSpec('model', None)


def step_of(made, parts):
  first = initializer(made, parts)
  state, axes = first.from_scratch(KEY), first.train_state_axes

  def step(state, batch):
    return trainer.train_with_lr(state, batch, 0.01, KEY, made, None)

  return state, parts.partition(
    step,
    in_axis_resources=(axes, parts.data_partition_spec),
    out_axis_resources=(axes, None),
  )


def test_a_step_over_a_mesh_is_that_of_one_device_and_is_constrained():
  made = model(WIDE)
  state, step = step_of(made, partitioner())
  # Activations, forward and backward: under t5x's partitioner, if not under
  # `with mesh:` alone, Flax sees the mesh.
  text = step.lower(state, BATCH).as_text()
  assert text.count('sdy.sharding_constraint') == 8
  alone = jax.jit(made.loss_fn)(jax.device_get(state.params), BATCH, KEY)[0]
  new, figures = step(state, BATCH)
  np.testing.assert_allclose(figures['loss'].compute(), alone, rtol=1e-5)
  after = jax.jit(made.loss_fn)(jax.device_get(new.params), BATCH, KEY)[0]
  assert after < alone


def test_scores_and_predictions_are_those_of_our_decoder():
  config, params = lm.to_decode(toys.OBJECTIVE.model, toys.PARAMS)
  made = model()
  codes, _ = jax.jit(made.predict_batch_with_aux)(toys.PARAMS, BATCH)
  decoder = decoding.StageDecoder(
    config=config,
    params=params,
    decoding=decoding.DecodingConfig(sampler=sampling.greedy),
  )
  output = toys.LAYOUT.output.positions
  prompt = BATCH[batches.TOKENS].copy()
  prompt[:, output] = toys.LAYOUT.pad_id
  rows = decoder.decode(prompt, keys=decoding.request_keys(np.arange(6)))
  np.testing.assert_array_equal(codes, toys.LAYOUT.unpack(rows))
  draw = jax.jit(made.predict_batch)
  drawn = [
    draw(toys.PARAMS, BATCH, jax.random.PRNGKey(seed)) for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert np.any(drawn[1] != drawn[2])

  score = jax.jit(made.score_batch)
  scores = score(toys.PARAMS, BATCH)
  assert scores.shape == (6,)
  likeliest = score(toys.PARAMS, {batches.TOKENS: rows})
  assert np.all(likeliest > scores)
  _, figures = jax.jit(made.eval_fn)(toys.PARAMS, BATCH)
  bits = figures['stage/toy/bits_per_code/fast']
  np.testing.assert_allclose(-np.sum(scores) / np.log(2), bits.total, rtol=1e-5)


def command(program, **bindings):
  """A run in a process of its own, on one device."""
  done = subprocess.run(
    [
      *(sys.executable, '-m', *program),
      *(f'--gin.{name.replace("__", ".")}={v}' for name, v in bindings.items()),
    ],
    env=os.environ | {'XLA_FLAGS': ''},
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stderr


STAGE = {
  'BATCH_SIZE': 4,
  'WINDOW_SECONDS': 3,
  'WARMUP_STEPS': 2,
  'SEED': 5,
  'LOG_EVERY_STEPS': 1,
  'EVALUATE_EVERY_STEPS': 3,
  'SAVE_EVERY_STEPS': 3,
  'transformer__TransformerConfig.num_layers': 1,
  # Nothing is drawn: t5x has its own keys.
  'objective__StageObjective.dropped_streams': '()',
  'DROP_RATE': 0.0,
}


def of_t5x(folder, stage):
  return command(
    (
      't5x.train',
      '--gin_search_paths=gin',
      '--gin_file=integrations/t5x_semantic.gin',
      '--alsologtostderr',
    ),
    MODEL_DIR=f"'{folder}'",
    TRAIN_STEPS=6,
    **stage,
  )


def losses(log):
  """By step, from what t5x logs."""
  lines = re.findall(r'\[(\d+)\] collection=train .*?\bloss=([\d.]+)', log)
  return {int(step): float(loss) for step, loss in lines}


def test_a_run_has_the_losses_of_ours_and_goes_on_where_it_was(tmp_path):
  token_toys.write(tmp_path, num_clips=17)
  stage = STAGE | {'TOKENS': f"'{tmp_path / 'tokens'}'"}
  found = losses(of_t5x(tmp_path / 't5x', stage))
  assert sorted(found) == [1, 2, 3, 4, 5, 6]
  for step in (0, 6):
    read = t5x_checkpoint.read(tmp_path / 't5x', step=step)
    bundles.publish(tmp_path / str(step), read)
  command(
    (
      'musiclm_jax.cli.train',
      '--gin_file=experiments/semantic_stage_tiny.gin',
    ),
    MODEL_DIR=f"'{tmp_path / 'ours'}'",
    NUM_STEPS=6,
    loop__train__warm_start=f"'{tmp_path / '0'}'",
    **stage,
  )
  lines = (tmp_path / 'ours/metrics/metrics.jsonl').read_text().splitlines()
  ours = {
    figures['step']: figures['train/loss']
    for figures in map(json.loads, lines)
    if 'train/loss' in figures
  }
  np.testing.assert_allclose(
    [found[step] for step in range(1, 7)],
    [ours[step] for step in range(1, 7)],
    rtol=1e-5,
  )
  one, other = (bundles.load(tmp_path / name) for name in ('6', 'ours'))
  assert one.config == other.config and one.trained_on == other.trained_on
  for leaf, like in zip(*map(jax.tree.leaves, (one.weights, other.weights))):
    assert np.linalg.norm(leaf - like) < 1e-3 * np.linalg.norm(like)

  shutil.copytree(tmp_path / 't5x', tmp_path / 'again')
  shutil.rmtree(tmp_path / 'again' / 'checkpoint_6')
  resumed = losses(of_t5x(tmp_path / 'again', stage))
  assert resumed == {step: found[step] for step in (4, 5, 6)}
