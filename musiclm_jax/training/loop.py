# SPDX-License-Identifier: Apache-2.0
"""A training run: state and batches to a checkpoint, with everything beside it.

The host keeps ahead of the device: while a step runs, the next batch is fetched
and placed, and the metrics of earlier steps are read. The step is compiled
once, before the first one, so that nothing can compile later.

Batch number n makes step n + 1, whether or not that step is skipped, so a
checkpoint needs one integer to find its place in the data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
from absl import logging
from orbax.checkpoint import multihost

from musiclm_jax.array_types import Batch
from musiclm_jax.batches import BatchSource
from musiclm_jax.checkpoints import buckets, bundle, text_file
from musiclm_jax.checkpoints.manager import CheckpointManager
from musiclm_jax.training import beginning, origin
from musiclm_jax.training.feed import Feed
from musiclm_jax.training.hooks import Hook, Profile, Run
from musiclm_jax.training.meter import Interval, Meter
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.preemption import EXIT_STOPPED, StopSignal
from musiclm_jax.training.progress import Progress
from musiclm_jax.training.speed import SaveClock, Speed
from musiclm_jax.training.state import Trainable, TrainState
from musiclm_jax.training.watchdog import Watchdog, warn_of_straggling


def _no_peak(training: Trainable, batch: Batch) -> float | None:
  """A loop by itself knows no device's peak rate."""
  del training, batch


def train(
  *,
  model_dir: str,
  training: Trainable,
  batches: BatchSource,
  num_steps: int,
  save_every_steps: int,
  partitioner: Partitioner | None = None,
  hooks: Sequence[Hook] = (),
  seed: int = 0,
  warm_start: str | None = None,
  log_every_steps: int = 10,
  keep_checkpoints: int = 3,
  best_metric: str | None = None,
  best_mode: str = 'min',
  max_skipped_in_a_row: int = 10,
  hang_seconds: int | float | None = None,
  profile_steps: tuple[int, int] | None = None,
  seconds_at_peak: Callable[[Trainable, Batch], float | None] = _no_peak,
  gin_config: Callable[[], str] = str,
) -> TrainState:
  """Trains, or goes on training, and returns the last state.

  Args:
    model_dir: The run's folder: checkpoints, metrics, and the bundle. It may be
      in a bucket.
    training: What is trained: `step.Training` or `AdversarialTraining`.
    batches: Endless training batches.
    num_steps: Steps of the whole run, those before a restart included.
    save_every_steps: When a checkpoint is saved; also at the end.
    partitioner: The mesh; all devices along 'data' if left out.
    hooks: Called between steps, in this order.
    seed: Of initialisation and of every step's draws.
    warm_start: A bundle whose weights a new run begins with.
    log_every_steps: Steps that a logged figure is the mean of.
    keep_checkpoints: The latest ones that stay.
    best_metric: The best checkpoint by this held-out figure stays too.
    best_mode: 'min' or 'max'.
    max_skipped_in_a_row: As many steps that are not finite end the run.
    hang_seconds: A run that stands still for longer is ended, as `watchdog`
      says; a hook and a save may each take as long, and a hook that calls
      `Run.beat` as long as that from one call to the next.
    profile_steps: The first and the last step that `hooks.Profile` records.
    seconds_at_peak: Gives what one device would take for a step's useful FLOPs
      at its peak rate, for the MFU; `None` where that is not known.
    gin_config: Gives the operative config, to keep it beside the model.

  Raises:
    SystemExit: With `preemption.EXIT_STOPPED`, after SIGTERM and a save.
    ValueError: The run was begun with another seed or on other codes; or it
      is to keep codes, and there is no bundle that makes them.
    FloatingPointError: Too many steps in a row were not finite.
  """
  directory = buckets.folder(model_dir)
  hooks = (*hooks, *_profile(profile_steps))
  partitioner = partitioner or Partitioner()
  with contextlib.ExitStack() as stack:
    # Around all that opens, restores and closes: that may stand still too.
    watchdog = stack.enter_context(Watchdog(seconds=hang_seconds))
    stop = stack.enter_context(StopSignal())
    manager = stack.enter_context(
      CheckpointManager(
        directory / 'checkpoints',
        keep=keep_checkpoints,
        best_metric=best_metric,
        best_mode=best_mode,
      )
    )
    start = manager.latest_step or 0
    origin.require_same(directory, origin.of(training), resumes=bool(start))
    feed = Feed(batches, partitioner=partitioner, start=start)
    batch = feed.next()
    watchdog.beat(start)
    run = beginning.begin(
      manager,
      directory=directory,
      training=training,
      partitioner=partitioner,
      batch=batch,
      seed=seed,
      warm_start=warm_start,
      num_steps=num_steps,
      gin_config=gin_config,
    )
    stack.enter_context(run.writer)
    watchdog.beat(start)
    _Loop(
      run=run,
      feed=feed,
      batch=batch,
      hooks=hooks,
      stop=stop,
      speed=_speed(feed, run, seconds_at_peak=seconds_at_peak(training, batch)),
      manager=manager,
      save_every_steps=save_every_steps,
      meter=Meter(
        num_skipped_in_a_row=int(run.state.num_skipped_in_a_row),
        max_skipped_in_a_row=max_skipped_in_a_row,
        log_every_steps=log_every_steps,
      ),
      progress=stack.enter_context(
        Progress(num_steps=num_steps, start=start, active=_is_first())
      ),
      watchdog=watchdog,
    ).run_steps()
  if not run.finished:
    logging.info('Stopped after step %d, as SIGTERM asked.', run.step)
    raise SystemExit(EXIT_STOPPED)
  return run.state


def _profile(steps: tuple[int, int] | None) -> tuple[Hook, ...]:
  if steps is None:
    return ()
  first_step, last_step = steps
  return (Profile(first_step=first_step, last_step=last_step),)


def _speed(feed: Feed, run: Run, *, seconds_at_peak: float | None) -> Speed:
  return Speed(
    num_examples=feed.batch_size,
    audio_seconds=feed.audio_seconds,
    num_devices=run.partitioner.mesh.size,
    seconds_at_peak=seconds_at_peak,
  )


def _is_first() -> bool:
  """Whether this process writes for all."""
  return jax.process_index() == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
  """The steps of a run, and what is done between them."""

  run: Run
  feed: Feed
  batch: Batch
  hooks: tuple[Hook, ...]
  stop: StopSignal
  speed: Speed
  manager: CheckpointManager
  save_every_steps: int
  meter: Meter
  progress: Progress
  watchdog: Watchdog

  def run_steps(self) -> None:
    run, batch = self.run, self.batch
    run.beat = lambda: self.watchdog.beat(run.step)
    if run.finished:
      self.progress.say(f'{run.model_dir} is trained to step {run.step}.')
      self._between_steps(SaveClock())
      return
    with self.watchdog.pause():
      train_step = self._compile()
    self._keep_config()
    self.meter.start_clock()
    save_clock = SaveClock()
    while not (run.finished or run.stopping):
      # By it a profile is read step by step.
      with jax.profiler.StepTraceAnnotation('train', step_num=run.step + 1):
        run.state, metrics = train_step(run.state, batch)
      run.step += 1
      run.stopping = self.stop.requested(run.step)
      if not (run.finished or run.stopping):
        batch = self.feed.next()
        self.meter.wait(self.feed.seconds_waited)
      self._show(self.meter.add(run.step, metrics))
      self._between_steps(save_clock)
      run.beat()

  def _compile(self) -> jax.stages.Compiled:
    began = time.monotonic()
    run = self.run
    step = run.partitioner.partition_step(run.training, run.state)
    compiled = step.lower(run.state, self.batch).compile()
    _wait_for_all(f'compiled {run.model_dir} after step {run.step}')
    self.progress.say(
      f'compiled the step in {time.monotonic() - began:.1f} s;'
      f' {num_parameters(run.state):,} parameters on'
      f' {run.partitioner.mesh.size} devices'
    )
    return compiled

  def _keep_config(self) -> None:
    """For a run that is cut off: a bundle brings its own."""
    text = self.run.gin_config()
    if text and _is_first():
      text_file.write(self.run.model_dir / bundle.CONFIG_GIN, text)

  def _between_steps(self, save_clock: SaveClock) -> None:
    """Hooks and the checkpoint, whichever are due."""
    run = self.run
    run.figures = {}
    due = [hook for hook in self.hooks if hook.due(run)]
    saves = run.stopping or run.every(self.save_every_steps)
    if not due and not saves:
      return
    # Before anything is saved: a run that goes on from here must not lack the
    # figures of the steps before.
    ends = run.finished or run.stopping
    self._show(self.meter.finish() if ends else self.meter.settle())
    began = time.monotonic()
    for hook in due:
      # Else a long one would end the run before its step is saved, each time.
      run.beat()
      hook(run)
    if saves:
      run.beat()
      save_began = time.monotonic()
      run.writer.flush()
      if self.manager.save(
        run.step, run.state, position=run.step, metrics=run.figures
      ):
        run.writer.scalars(run.step, save_clock.figures(began=save_began))
    self.meter.exclude(time.monotonic() - began)

  def _show(self, intervals: list[Interval]) -> None:
    for interval in intervals:
      figures = {f'train/{k}': v for k, v in interval.metrics.items()}
      figures |= self.speed.figures(interval)
      self.run.writer.scalars(interval.step, figures)
      warn_of_straggling(
        interval.step, host_wait_share=interval.host_wait_share
      )
      self.progress.interval(
        interval, self.speed.amounts(interval), mfu=self.speed.mfu(interval)
      )


def _wait_for_all(what: str) -> None:
  """Returns when every process is here; `what` is said once in a process.

  By the coordinator, for up to an hour: what connects the devices when a
  program first runs gives up half a minute after the first process is there.
  """
  if jax.process_count() > 1:
    everyone = set(range(jax.process_count()))
    multihost.sync_global_processes(what, timeout=3600, processes=everyone)


def num_parameters(state: TrainState) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(state.params))
