# SPDX-License-Identifier: Apache-2.0
"""What happens beside the steps: evaluation, publishing, profiles.

A hook is asked after every step whether it is due, and called if so, in the
order in which the run lists its hooks and before the checkpoint of that step is
saved. Every process calls it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from absl import logging

from musiclm_jax.batches import BatchSource
from musiclm_jax.checkpoints import bundle
from musiclm_jax.checkpoints.buckets import Folder, Mirror
from musiclm_jax.metrics import Evaluation
from musiclm_jax.training.metrics_writer import MetricsWriter
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.state import Trainable, TrainState


@dataclasses.dataclass(kw_only=True)
class Run:
  """What a hook sees of a run.

  Attributes:
    model_dir: Where the run writes.
    training: What is trained.
    partitioner: Where it lives.
    writer: Takes figures and audio.
    gin_config: Gives the operative config.
    num_steps: Where the run ends.
    step: Steps done.
    state: After that step. The next step takes its memory: keep no reference.
    stopping: This is the last step that this process does.
    derived_from: The token space that the run keeps, see `origin`; `None` if
      what is published makes codes of its own.
    figures: Held-out figures of this step; hooks add theirs.
    beat: For a hook that takes long: tells the watchdog that it gets on.
  """

  model_dir: Folder
  training: Trainable
  partitioner: Partitioner
  writer: MetricsWriter
  gin_config: Callable[[], str]
  num_steps: int
  step: int
  state: TrainState
  stopping: bool = False
  derived_from: str | None = None
  figures: dict[str, float] = dataclasses.field(default_factory=dict)
  beat: Callable[[], None] = lambda: None

  @property
  def finished(self) -> bool:
    return self.step >= self.num_steps

  def every(self, steps: int | None) -> bool:
    """Whether `step` is a multiple of `steps`; the end of the run always is."""
    return self.finished or (steps is not None and self.step % steps == 0)


@runtime_checkable
class Hook(Protocol):
  """Something that is done between two steps."""

  def due(self, run: Run) -> bool: ...

  def __call__(self, run: Run) -> None: ...


class Evaluate:
  """Figures, and audio to listen to, over the same held-out batches."""

  def __init__(
    self,
    batches: BatchSource,
    *,
    every_steps: int,
    num_batches: int | None = None,
    name: str = 'evaluate',
    num_audio_examples: int = 0,
    sample_rate_hz: int | None = None,
  ):
    """Reads nothing yet.

    Args:
      batches: Held-out examples; always read from the first on.
      every_steps: When; also at the end of the run.
      num_batches: How many; all of them if left out, so the source must end.
      name: Figures are named `<name>/...`.
      num_audio_examples: Rows of the first batch whose audio is logged.
      sample_rate_hz: Of that audio.
    """
    if num_audio_examples and sample_rate_hz is None:
      raise ValueError(
        f'{num_audio_examples} audio examples are to be logged; give their'
        ' sample_rate_hz.'
      )
    self._batches = batches
    self._every_steps = every_steps
    self._num_batches = num_batches
    self._name = name
    self._num_audio_examples = num_audio_examples
    self._sample_rate_hz = sample_rate_hz
    self._evaluate: Callable[..., Evaluation] | None = None

  def due(self, run: Run) -> bool:
    return run.every(self._every_steps)

  def __call__(self, run: Run) -> None:
    if self._evaluate is None:
      self._evaluate = run.partitioner.partition_evaluation(
        run.training, num_waveforms=self._num_audio_examples
      )
    evaluations = []
    for batch in self._placed(run.partitioner):
      run.beat()
      evaluations.append(self._evaluate(run.state, batch))
      if len(evaluations) > 1:
        # Later ones are not listened to; their memory is wanted.
        evaluations[-1] = evaluations[-1].replace(waveforms={})
        # Else every batch would be on the devices before the first is done.
        jax.block_until_ready(evaluations[-2].metrics)
    if not evaluations:
      raise ValueError(f'{self._name}: the held-out source has no batch.')
    figures = self._means(evaluations) | self._of_histograms(evaluations)
    run.writer.scalars(run.step, figures)
    run.figures.update(figures)
    if self._num_audio_examples:
      run.writer.waveforms(
        run.step,
        {
          f'{self._name}/{name}': np.asarray(waveform)
          for name, waveform in evaluations[0].waveforms.items()
        },
        sample_rate_hz=self._sample_rate_hz,
      )

  def _placed(self, partitioner: Partitioner) -> Iterator[dict[str, jax.Array]]:
    batch_size = self._batches.batch_size
    index, count = partitioner.process_rows(batch_size)
    source = self._batches.batches(0, process_index=index, process_count=count)
    for number, rows in enumerate(source, start=1):
      yield partitioner.place_batch(rows, batch_size=batch_size)
      if number == self._num_batches:
        return

  def _means(self, evaluations: list[Evaluation]) -> dict[str, float]:
    """Means over all examples, of what was counted at all."""
    metrics = jax.device_get([dict(e.metrics) for e in evaluations])
    means = {}
    for name in metrics[0]:
      weight = sum(float(batch[name].weight) for batch in metrics)
      total = sum(float(batch[name].total) for batch in metrics)
      if weight:
        means[f'{self._name}/{name}'] = total / weight
    return means

  def _of_histograms(self, evaluations: list[Evaluation]) -> dict[str, float]:
    """Figures of the histograms over all examples."""
    histograms = jax.device_get([dict(e.histograms) for e in evaluations])
    return {
      f'{self._name}/{name}/{figure}': float(value)
      for name in histograms[0]
      for figure, value in functools.reduce(
        operator.add, (batch[name] for batch in histograms)
      )
      .figures()
      .items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Publish:
  """Publishes the bundle in the model's folder, when the run has finished.

  Attributes:
    every_steps: Also this often before; `None` for at the end alone.
  """

  every_steps: int | None = None

  def due(self, run: Run) -> bool:
    return run.every(self.every_steps)

  def __call__(self, run: Run) -> None:
    contents = run.training.bundle(run.state)
    if run.derived_from is not None:
      contents = dataclasses.replace(contents, derived_from=run.derived_from)
    fingerprint = bundle.publish(
      run.model_dir, contents, gin_config=run.gin_config()
    )
    logging.info('Published %s as %s.', run.model_dir, fingerprint)


class Profile:
  """Records what the device does over some steps, for TensorBoard or XProf."""

  def __init__(self, *, first_step: int, last_step: int):
    """The steps are counted from 1; the first holds the compilation.

    A run that resumes among them records those after its own first step.
    """
    if not 1 < first_step <= last_step:
      raise ValueError(
        f'Steps {first_step} to {last_step} cannot be profiled; wanted is'
        ' 2 <= first_step <= last_step.'
      )
    self._first_step = first_step
    self._last_step = last_step
    self._recording = False

  def due(self, run: Run) -> bool:
    if self._recording:
      return run.step >= self._last_step or run.finished or run.stopping
    among_them = self._first_step - 1 <= run.step < self._last_step
    return among_them and not (run.finished or run.stopping)

  def __call__(self, run: Run) -> None:
    if self._recording:
      jax.block_until_ready(run.state)
      jax.profiler.stop_trace()
      self._mirror.close()
    else:
      self._mirror = Mirror(run.model_dir / 'profile')
      jax.profiler.start_trace(str(self._mirror.local))
    self._recording = not self._recording
