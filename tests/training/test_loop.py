# SPDX-License-Identifier: Apache-2.0
"""Whole runs in this process: resumed, stopped, refused, compiled once."""

import dataclasses
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle, manager
from musiclm_jax.training import (
  hooks,
  loop,
  metrics_writer,
  optimizers,
  watchdog,
)
from musiclm_jax.training.adversarial import AdversarialTraining
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.preemption import EXIT_STOPPED
from musiclm_jax.training.step import Training
from tests.training import toys

MESH = Partitioner(data=2, fsdp=2, tensor=2)


def plain():
  return Training(
    objective=toys.Reconstruction(noise=0.1),
    optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
    ema_decay=0.9,
  )


def adversarial():
  return AdversarialTraining(
    objective=toys.Game(noise=0.1),
    generator_optimizer=optimizers.adam(learning_rate=0.01),
    discriminator_optimizer=optimizers.adam(learning_rate=0.01),
    ema_decay=0.9,
  )


def run(model_dir, training=None, **arguments):
  arguments = {
    'num_steps': 12,
    'save_every_steps': 4,
    'batches': toys.Noise(),
    'log_every_steps': 1,
    **arguments,
  }
  return loop.train(
    model_dir=str(model_dir), training=training or plain(), **arguments
  )


def figures(model_dir):
  """{(step, name): value} of a run, without those that depend on time."""
  found = {}
  path = model_dir / 'metrics' / metrics_writer.FILE_NAME
  for line in metrics_writer.read(path):
    for name, value in line.items():
      if name not in ('step', 'seconds') and not name.startswith('speed/'):
        assert (line['step'], name) not in found
        found[line['step'], name] = value
  return found


class Do:
  """A hook that calls a function after one step."""

  def __init__(self, step, action):
    self.step = step
    self.action = action

  def due(self, run):
    return run.step == self.step

  def __call__(self, run):
    self.action()


def sigterm():
  os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize('make', [plain, adversarial])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, make):
  held_out = [
    hooks.Evaluate(toys.Noise(seed=1), every_steps=3, num_batches=2),
  ]
  whole = run(tmp_path / 'a', make(), hooks=held_out, partitioner=MESH)
  # Stopped between two saves; the request is seen after the step that follows.
  with pytest.raises(SystemExit) as stopped:
    run(
      tmp_path / 'b',
      make(),
      hooks=[*held_out, Do(6, sigterm)],
      partitioner=MESH,
    )
  assert stopped.value.code == EXIT_STOPPED == 75
  assert max(step for step, _ in figures(tmp_path / 'b')) == 7
  resumed = run(tmp_path / 'b', make(), hooks=held_out, partitioner=MESH)

  jax.tree.map(np.testing.assert_array_equal, whole, resumed)
  assert int(resumed.step) == 12
  made = figures(tmp_path / 'a')
  assert made == figures(tmp_path / 'b')
  assert len({v for (_, name), v in made.items() if name == 'train/loss'}) == 12
  rates = {v for (_, name), v in made.items() if name.endswith('learning_rate')}
  assert list(rates) == [pytest.approx(0.01)]


def test_nothing_is_compiled_after_the_first_step(tmp_path):
  compiled = []
  counts = []

  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    run(
      tmp_path,
      save_every_steps=100,
      hooks=[
        Do(step, lambda: counts.append(len(compiled))) for step in range(1, 12)
      ],
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(counts) == 11
  assert counts[0] == counts[-1] > 0


def test_speed_is_logged_beside_the_peak_and_with_the_time_of_saves(
  tmp_path, monkeypatch
):
  asked = []
  # As where a bucket is far away; the run stands still for it too.
  monkeypatch.setattr(
    metrics_writer.MetricsWriter, 'flush', lambda self: time.sleep(0.3)
  )

  def seconds_at_peak(training, batch):
    asked.append((training, batch[batches.WAVEFORM].shape))
    return 1e-3

  source = toys.Noise()
  source.sample_rate_hz = 8
  training = plain()
  run(
    tmp_path,
    training,
    batches=source,
    num_steps=4,
    save_every_steps=2,
    seconds_at_peak=seconds_at_peak,
    partitioner=MESH,
  )
  assert asked == [(training, (toys.BATCH, toys.SAMPLES))]
  lines = list(
    metrics_writer.read(tmp_path / 'metrics' / metrics_writer.FILE_NAME)
  )
  steps = [line for line in lines if 'speed/mfu' in line]
  assert [line['step'] for line in steps] == [1, 2, 3, 4]
  for line in steps:
    rate = line['speed/steps_per_second']
    assert line['speed/mfu'] == pytest.approx(rate * 1e-3 / 8)
    assert line['speed/audio_seconds_per_chip_second'] == pytest.approx(
      rate * toys.BATCH * toys.SAMPLES / 8 / 8
    )
  saves = [line for line in lines if 'speed/save_share' in line]
  assert [line['step'] for line in saves] == [2, 4]
  assert all(0 < line['speed/save_share'] < 1 for line in saves)
  assert all(line['speed/save_seconds'] > 0.3 for line in saves)


def profiled_steps(path):
  """Numbers of the steps that a profile is divided into."""
  return [
    dict(event.stats)['step_num']
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes
    for line in plane.lines
    for event in line.events
    if event.name == 'train'
  ]


def test_folder_of_a_run_may_be_in_a_bucket(tmp_path, buckets, monkeypatch):
  # TensorStore would ask the real one.
  monkeypatch.setattr(
    loop,
    'CheckpointManager',
    lambda directory, **given: manager.CheckpointManager(
      tmp_path / 'checkpoints', **given
    ),
  )
  arguments = {
    'hooks': [hooks.Publish()],
    'gin_config': lambda: 'A = 1',
    'profile_steps': (2, 3),
    'log_every_steps': 2,
  }
  for num_steps in (4, 8):
    run('gs://b/run', num_steps=num_steps, **arguments)
  there = buckets / 'b' / 'run'
  assert (there / 'config.gin').read_text() == 'A = 1'
  lines = metrics_writer.read(there / 'metrics' / metrics_writer.FILE_NAME)
  logged = [line['step'] for line in lines if 'train/loss' in line]
  assert logged == [2, 4, 6, 8]
  assert len(list((there / 'metrics').glob('events.*'))) == 2
  assert bundle.load('gs://b/run').kind == 'toy'
  [profile] = (there / 'profile').rglob('*.xplane.pb')
  assert profiled_steps(profile) == [2, 3]


def test_run_that_finished_is_published_and_not_trained_again(tmp_path):
  held_out = hooks.Evaluate(toys.Noise(seed=1), every_steps=12, num_batches=1)
  made = [held_out, hooks.Publish()]
  state = run(tmp_path, hooks=made)
  logged = figures(tmp_path)
  assert (12, 'evaluate/toy/error') in logged
  published = bundle.load(tmp_path)
  np.testing.assert_array_equal(
    published.weights['params']['encoder']['kernel'],
    state.averaged['params']['encoder']['kernel'],
  )

  class Exploding(toys.Noise):
    def batches(self, start, **rows):
      yield next(super().batches(start, **rows))
      raise AssertionError('A second batch was read.')

  (tmp_path / bundle.MODEL_JSON).unlink()  # Killed just before it was written.
  again = run(tmp_path, batches=Exploding(), hooks=made)
  assert figures(tmp_path) == logged
  jax.tree.map(np.testing.assert_array_equal, state, again)
  assert bundle.load(tmp_path).fingerprint == published.fingerprint


def test_run_goes_on_when_more_steps_are_asked_for(tmp_path):
  run(tmp_path / 'a', num_steps=5)
  further = run(tmp_path / 'a', num_steps=12)
  jax.tree.map(np.testing.assert_array_equal, further, run(tmp_path / 'b'))


@pytest.mark.parametrize('make', [plain, adversarial])
def test_warm_start_begins_with_the_weights_of_the_bundle(tmp_path, make):
  run(tmp_path / 'old', make(), hooks=[hooks.Publish()])
  wanted = bundle.load(tmp_path / 'old').weights
  seen = []

  class Look(Do):
    def __call__(self, run):
      seen.append(jax.device_get(run.training.published_variables(run.state)))

  frozen = make()
  for name in ('optimizer', 'generator_optimizer'):
    if hasattr(frozen, name):
      object.__setattr__(frozen, name, optimizers.adam(learning_rate=0.0))
  run(
    tmp_path / 'new',
    frozen,
    num_steps=1,
    warm_start=str(tmp_path / 'old'),
    hooks=[Look(1, None)],
    seed=5,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    seen[0]['params'],
    wanted['params'],
  )


class DecoderGame(toys.Game):
  trained_parts = ('decoder',)
  dtype = 'float32'

  def bundle(self, generator_variables):
    made = super().bundle(generator_variables)
    return dataclasses.replace(made, config=toys.Config(dtype=self.dtype))


def decoder_alone():
  return dataclasses.replace(adversarial(), objective=DecoderGame(noise=0.1))


def test_a_run_of_a_part_stands_for_the_bundle_it_was_started_from(tmp_path):
  run(tmp_path / 'old', adversarial(), num_steps=2, hooks=[hooks.Publish()])
  old = bundle.load(tmp_path / 'old')
  given = {'warm_start': str(tmp_path / 'old'), 'num_steps': 4}
  whole = run(tmp_path / 'a', decoder_alone(), hooks=[hooks.Publish()], **given)
  with pytest.raises(SystemExit):
    run(tmp_path / 'b', decoder_alone(), hooks=[Do(1, sigterm)], **given)
  # What it was started from may be gone by then.
  (tmp_path / 'old' / bundle.MODEL_JSON).unlink()
  resumed = run(
    tmp_path / 'b', decoder_alone(), hooks=[hooks.Publish()], **given
  )
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)
  a, b = bundle.load(tmp_path / 'a'), bundle.load(tmp_path / 'b')
  assert a.fingerprint == b.fingerprint != old.fingerprint
  assert a.token_space == b.token_space == old.fingerprint

  given['warm_start'] = str(tmp_path / 'a')
  run(tmp_path / 'c', decoder_alone(), hooks=[hooks.Publish()], **given)
  c = bundle.load(tmp_path / 'c')
  assert c.fingerprint != a.fingerprint
  assert c.token_space == old.fingerprint

  with pytest.raises(ValueError, match='begun training a part of it alone and'):
    run(tmp_path / 'b', adversarial())
  coarser = decoder_alone()
  coarser.objective.dtype = 'bfloat16'
  with pytest.raises(ValueError, match="'bfloat16'} would make others"):
    run(tmp_path / 'b', coarser, **given)


def test_a_part_is_not_trained_without_the_rest(tmp_path):
  with pytest.raises(ValueError, match='Only decoder .* as warm_start'):
    run(tmp_path / 'a', decoder_alone())
  run(tmp_path / 'b', adversarial(), num_steps=1)
  with pytest.raises(ValueError, match='begun training the whole model and'):
    run(tmp_path / 'b', decoder_alone())


class Spoilt(toys.Noise):
  """Noise with batches that are not finite."""

  def __init__(self, bad):
    super().__init__()
    self.bad = bad

  def batch(self, position):
    batch = super().batch(position)
    if position in self.bad:
      batch[batches.WAVEFORM][1, 2] = np.nan
    return batch


def test_bad_batches_are_skipped_and_counted(tmp_path):
  state = run(tmp_path, batches=Spoilt({2, 5, 6}), max_skipped_in_a_row=3)
  assert int(state.num_skipped) == 3
  logged = figures(tmp_path)
  skipped = {s for (s, n), v in logged.items() if n == 'train/skipped' and v}
  assert skipped == {3, 6, 7}
  assert (6, 'train/loss') not in logged


def test_too_many_bad_batches_in_a_row_end_the_run(tmp_path):
  source = Spoilt({5, 6, 7})
  with pytest.raises(
    FloatingPointError, match='3 steps in a row, up to step 8'
  ):
    run(tmp_path, batches=source, max_skipped_in_a_row=3, save_every_steps=5)
  # Counted across a restart too: the state of step 7 has two behind it.
  with pytest.raises(
    FloatingPointError, match='3 steps in a row, up to step 8'
  ):
    run(tmp_path, batches=source, max_skipped_in_a_row=3, save_every_steps=7)


def test_a_run_that_stands_still_is_ended_after_its_last_step(
  tmp_path, monkeypatch
):
  ended = threading.Event()
  last = []

  def end(self):
    last.append(self._step)
    ended.set()

  monkeypatch.setattr(watchdog.Watchdog, '_end', end)
  stands_still = [Do(7, lambda: ended.wait(60))]
  run(
    tmp_path,
    num_steps=9,
    save_every_steps=100,
    hang_seconds=4,
    hooks=stands_still,
  )
  assert last == [7]


def test_a_run_is_watched_from_before_it_opens_until_after_it_has_saved(
  tmp_path, monkeypatch
):
  events = []

  def noted(owner, name):
    before = getattr(owner, name)

    def call(self, *given, **named):
      events.append(name)
      return before(self, *given, **named)

    monkeypatch.setattr(owner, name, call)

  noted(watchdog.Watchdog, '__enter__')
  noted(watchdog.Watchdog, 'beat')
  noted(watchdog.Watchdog, 'pause')
  noted(watchdog.Watchdog, '__exit__')
  noted(manager.CheckpointManager, '__init__')
  noted(manager.CheckpointManager, 'close')
  run(tmp_path, num_steps=1, hang_seconds=1000)
  opened = ['__enter__', '__init__', 'beat', 'beat', 'pause']
  assert events[: len(opened)] == opened
  assert events[-2:] == ['close', '__exit__']


def test_what_is_due_after_a_step_may_each_take_as_long_as_a_step(
  tmp_path, monkeypatch
):
  beats = []

  class Counted(watchdog.Watchdog):
    def beat(self, step):
      beats.append(step)

  monkeypatch.setattr(loop, 'Watchdog', Counted)
  before = {}

  class Look(Do):
    def due(self, run):
      before.setdefault(run.step, len(beats))
      return super().due(run)

  evaluate = hooks.Evaluate(toys.Noise(seed=1), every_steps=2, num_batches=3)
  # The end of the step, two hooks, three batches, the save.
  run(
    tmp_path,
    num_steps=3,
    save_every_steps=2,
    hooks=[Look(2, int), evaluate],
  )
  assert beats[before[2] : before[3]] == [2] * (2 + 3 + 1 + 1)


def test_other_seed_than_the_run_was_begun_with_is_an_error(tmp_path):
  run(tmp_path, num_steps=2)
  with pytest.raises(ValueError, match='begun with seed 0 .* seed 1'):
    run(tmp_path, seed=1)


def test_config_that_no_bundle_can_hold_is_an_error_before_the_first_step(
  tmp_path,
):
  class Odd(toys.Reconstruction):
    def bundle(self, variables):
      return dataclasses.replace(super().bundle(variables), config=[7])

  training = dataclasses.replace(plain(), objective=Odd())
  with pytest.raises(ValueError, match='config is a list.*write a tuple'):
    run(tmp_path, training)
  assert not (tmp_path / 'metrics').exists()


def test_source_that_ends_is_an_error(tmp_path):
  class Short(toys.Noise):
    def batches(self, start, **rows):
      for _, batch in zip(range(3), super().batches(start, **rows)):
        yield batch

  with pytest.raises(ValueError, match='ended after 3'):
    run(tmp_path, batches=Short())


def test_batch_of_another_form_is_an_error(tmp_path):
  class Growing(toys.Noise):
    def batch(self, position):
      self.samples = toys.SAMPLES + (position == 2)
      return super().batch(position)

  with pytest.raises(ValueError, match='Batch 2 holds .*25.*one form'):
    run(tmp_path, batches=Growing())


def test_best_checkpoint_by_a_held_out_figure_stays(tmp_path):
  run(
    tmp_path,
    num_steps=12,
    save_every_steps=2,
    hooks=[hooks.Evaluate(toys.Noise(seed=1), every_steps=2, num_batches=1)],
    keep_checkpoints=1,
    best_metric='evaluate/toy/error',
    best_mode='max',
  )
  errors = {
    step: value
    for (step, name), value in figures(tmp_path).items()
    if name == 'evaluate/toy/error'
  }
  best = max(errors, key=errors.get)
  assert best != 12
  kept = {int(p.name) for p in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {best, 12}


def test_config_is_beside_the_model_from_the_first_step_on(tmp_path):
  def read():
    assert (tmp_path / 'config.gin').read_text() == 'A = 1'

  # It is never seen half-written: the old one stays whole where it is open.
  (tmp_path / 'config.gin').write_text('A = 0')
  (tmp_path / 'open').hardlink_to(tmp_path / 'config.gin')
  run(tmp_path, num_steps=2, gin_config=lambda: 'A = 1', hooks=[Do(1, read)])
  assert (tmp_path / 'open').read_text() == 'A = 0'
