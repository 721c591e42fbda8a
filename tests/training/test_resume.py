# SPDX-License-Identifier: Apache-2.0
"""A real process is killed at a random step; the run does not show it.

Each run is a process of its own, on a mesh of 2 × 2 × 2 devices (the real codec:
of 2). It is killed from outside by what it has written to metrics.jsonl, started
again, and must end with every loss and every bit of its state as in the run that
was left alone.
"""

import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from musiclm_jax.training.preemption import EXIT_STOPPED
from tests.training.records import losses

NUM_STEPS = 60
SAVE_EVERY_STEPS = 6

RUN = """
import pathlib, sys, time
import jax, numpy as np
from musiclm_jax.codec import discriminators, objective, reconstruction
from musiclm_jax.codec.soundstream import SoundStreamConfig
from musiclm_jax.quantization.residual import ResidualQuantizerConfig
from musiclm_jax.semantic.objective import W2vBertObjective
from musiclm_jax.training import adversarial, loop, optimizers, step
from musiclm_jax.training.partitioning import Partitioner
from tests.semantic import toys as semantic_toys
from tests.training import toys

class Slow(toys.Noise):
  # So that a kill falls among the steps, and into the saves of some.
  def batches(self, start, **rows):
    for batch in super().batches(start, **rows):
      time.sleep(0.01)
      yield batch

def plain():
  return step.Training(
    objective=toys.Reconstruction(noise=0.1),
    optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
    ema_decay=0.9,
  )

def game(objective):
  return adversarial.AdversarialTraining(
    objective=objective,
    generator_optimizer=optimizers.adam(learning_rate=0.01),
    discriminator_optimizer=optimizers.adam(learning_rate=0.02),
    ema_decay=0.9,
  )

def codec():
  # Quantizer dropout, k-means start, moving codebooks, dead codes replaced.
  return game(objective.SoundStreamObjective(
    codec=SoundStreamConfig(
      sample_rate_hz=600,
      channels=8,
      strides=(2, 3),
      embed_dim=8,
      quantizer=ResidualQuantizerConfig(
        num_levels=2, codebook_size=8, dead_code_threshold=8.0,
      ),
    ),
    discriminators=discriminators.DiscriminatorsConfig(
      members=(discriminators.WaveConfig(
        channels=16, max_channels=16, num_strides=1, num_resolutions=1,
      ),)
    ),
    losses=objective.LossConfig(
      mel_distance=reconstruction.MelDistanceConfig(windows=(64,)),
    ),
  ))

def w2v_bert():
  # Masks, codes, dropout and distractors drawn; a temperature that falls.
  return step.Training(
    objective=W2vBertObjective(
      model=semantic_toys.scanned(semantic_toys.config(dropout_rate=0.1))
    ),
    optimizer=optimizers.adam(learning_rate=1e-3, clip_norm=1.0),
    ema_decay=0.9,
  )

KINDS = {
  'plain': (plain, Slow(), Partitioner(data=2, fsdp=2, tensor=2)),
  'adversarial': (
    lambda: game(toys.Game(noise=0.1)),
    Slow(),
    Partitioner(data=2, fsdp=2, tensor=2),
  ),
  'codec': (codec, Slow(batch_size=8, samples=192), Partitioner(data=2)),
  'w2v_bert': (
    w2v_bert,
    Slow(batch_size=8, samples=24 * semantic_toys.HOP),
    Partitioner(data=2),
  ),
}
model_dir, kind, num_steps, save_every_steps = sys.argv[1:]
make_training, batches, partitioner = KINDS[kind]
state = loop.train(
  model_dir=model_dir,
  training=make_training(),
  batches=batches,
  num_steps=int(num_steps),
  save_every_steps=int(save_every_steps),
  log_every_steps=1,
  partitioner=partitioner,
)
leaves = {
  jax.tree_util.keystr(path): np.asarray(leaf)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state)
}
np.savez(pathlib.Path(model_dir) / 'final.npz', **leaves)
"""


def start(model_dir, kind):
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(pathlib.Path(__file__).parents[2]),
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
  }
  arguments = [str(model_dir), kind, str(NUM_STEPS), str(SAVE_EVERY_STEPS)]
  return subprocess.Popen(
    [sys.executable, '-c', RUN, *arguments],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(model_dir, kind):
  process = start(model_dir, kind)
  _, errors = process.communicate(timeout=600)
  assert process.returncode == 0, errors


def interrupt(model_dir, kind, *, step, number):
  """Runs until `step` is on record and sends signal `number`."""
  process = start(model_dir, kind)
  while max(losses(model_dir), default=0) < step:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.002)
  process.send_signal(number)
  process.communicate(timeout=60)
  return process.returncode


def saved_steps(model_dir):
  """Of whole checkpoints; none if the kill fell into the first save."""
  checkpoints = model_dir / 'checkpoints'
  return sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit())


def assert_same_run(one, other):
  assert losses(one) == losses(other)
  assert len(set(losses(one).values())) == NUM_STEPS
  first, second = np.load(one / 'final.npz'), np.load(other / 'final.npz')
  assert set(first) == set(second)
  for part in ('.step', '.params', '.collections', '.opt_state', '.averaged'):
    assert any(path.startswith(part) for path in first), part
  for path in first:
    assert first[path].dtype == second[path].dtype
    assert first[path].tobytes() == second[path].tobytes(), path


@pytest.fixture(scope='module', autouse=True)
def compile_once(tmp_path_factory):
  """The same step is compiled by several processes; the first one keeps it."""
  with pytest.MonkeyPatch.context() as patch:
    cache = tmp_path_factory.mktemp('compiled')
    patch.setenv('JAX_COMPILATION_CACHE_DIR', str(cache))
    yield


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The run that was left alone, of each kind."""

  @functools.cache
  def run(kind):
    model_dir = tmp_path_factory.mktemp(f'whole_{kind}')
    finish(model_dir, kind)
    return model_dir

  return run


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['plain', 'adversarial', 'codec', 'w2v_bert'])
def test_killed_at_random_steps_a_run_ends_as_if_left_alone(
  whole, kind, tmp_path
):
  whole_run = whole(kind)
  draw = np.random.default_rng()
  # At least 20 steps are left after the last kill.
  kills = sorted(
    draw.choice(range(SAVE_EVERY_STEPS + 1, NUM_STEPS - 20), 2, replace=False)
  )
  print('killed at', kills)
  for step in kills:
    killed = interrupt(tmp_path, kind, step=step, number=signal.SIGKILL)
    assert killed == -signal.SIGKILL
    assert NUM_STEPS not in saved_steps(tmp_path)
  finish(tmp_path, kind)
  assert_same_run(whole_run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['plain', 'adversarial'])
def test_sigterm_saves_the_step_at_hand_and_the_run_goes_on_from_it(
  whole, kind, tmp_path
):
  stopped = interrupt(tmp_path, kind, step=20, number=signal.SIGTERM)
  assert stopped == EXIT_STOPPED
  last_step = max(losses(tmp_path))
  assert last_step < NUM_STEPS
  assert saved_steps(tmp_path)[-1] == last_step
  finish(tmp_path, kind)
  assert_same_run(whole(kind), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['plain', 'adversarial'])
def test_a_half_written_checkpoint_is_passed_over(whole, kind, tmp_path):
  interrupt(tmp_path, kind, step=20, number=signal.SIGKILL)
  checkpoints = tmp_path / 'checkpoints'
  latest = saved_steps(tmp_path)[-1]
  # All of it but the commit marker; and one that was cut off in its data.
  half = checkpoints / str(latest + SAVE_EVERY_STEPS)
  shutil.copytree(
    checkpoints / str(latest),
    half,
    ignore=shutil.ignore_patterns('commit_success.txt'),
    dirs_exist_ok=True,
  )
  (half / 'commit_success.txt').unlink(missing_ok=True)
  (checkpoints / '48.orbax-checkpoint-tmp-7' / 'state').mkdir(parents=True)
  finish(tmp_path, kind)
  assert_same_run(whole(kind), tmp_path)
