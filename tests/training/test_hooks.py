# SPDX-License-Identifier: Apache-2.0
"""Hooks between steps: figures over unequal batches, audio, profiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.metrics import Histogram
from musiclm_jax.training import hooks, optimizers
from musiclm_jax.training.metrics_writer import MetricsWriter
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.training import toys


class Recorder(MetricsWriter):
  """A writer that remembers instead."""

  def __init__(self):
    self.figures = {}
    self.audio = {}

  def scalars(self, step, figures):
    self.figures[step] = figures

  def waveforms(self, step, waveforms, *, sample_rate_hz):
    self.audio[step] = (waveforms, sample_rate_hz)


@pytest.fixture
def run(tmp_path):
  partitioner = Partitioner(data=8)
  training = Training(
    objective=toys.Reconstruction(),
    optimizer=optimizers.adam(learning_rate=0.1),
  )
  batch = partitioner.place_batch(toys.Noise().batch(0), batch_size=toys.BATCH)
  return hooks.Run(
    model_dir=tmp_path,
    training=training,
    partitioner=partitioner,
    writer=Recorder(),
    gin_config=str,
    num_steps=10,
    step=4,
    state=partitioner.first_state(training, seed=0, batch=batch),
  )


class Finite(toys.Noise):
  """Three batches, of which the last has but a few samples."""

  def batches(self, start, **rows):
    for _, batch in zip(range(3), super().batches(start, **rows)):
      yield batch

  def batch(self, position):
    batch = super().batch(position)
    if position == 2:
      batch[batches.SAMPLE_MASK][1:] = False
    return batch


def errors_by_hand(run, source, num_batches):
  total = weight = 0.0
  for position in range(num_batches):
    batch = source.batch(position)
    evaluation = run.training.evaluate(run.state, batch)
    mean = evaluation.metrics['toy/error']
    total += float(mean.total)
    weight += float(mean.weight)
  return total / weight


@pytest.mark.parametrize('num_batches', [None, 2])
def test_held_out_figure_is_the_mean_over_all_samples(run, num_batches):
  hook = hooks.Evaluate(Finite(seed=1), every_steps=2, num_batches=num_batches)
  hook(run)
  wanted = errors_by_hand(run, Finite(seed=1), num_batches or 3)
  np.testing.assert_allclose(
    run.figures['evaluate/toy/error'], wanted, rtol=1e-5
  )
  assert run.writer.figures == {4: run.figures}
  assert run.writer.audio == {}


def test_first_rows_are_logged_as_audio(run):
  hook = hooks.Evaluate(
    Finite(seed=1),
    every_steps=2,
    name='held_out',
    num_audio_examples=3,
    sample_rate_hz=24000,
  )
  hook(run)
  waveforms, sample_rate_hz = run.writer.audio[4]
  assert sample_rate_hz == 24000
  assert set(waveforms) == {'held_out/original', 'held_out/reconstruction'}
  np.testing.assert_array_equal(
    waveforms['held_out/original'],
    Finite(seed=1).batch(0)[batches.WAVEFORM][:3],
  )


def test_audio_without_its_rate_is_an_error():
  with pytest.raises(ValueError, match='give their sample_rate_hz'):
    hooks.Evaluate(toys.Noise(), every_steps=1, num_audio_examples=1)


def test_source_without_a_batch_is_an_error(run):
  class Empty(toys.Noise):
    def batches(self, start, **rows):
      return iter(())

  with pytest.raises(ValueError, match='no batch'):
    hooks.Evaluate(Empty(), every_steps=1)(run)


def test_hooks_are_due_at_multiples_and_at_the_end(run):
  every_four = hooks.Evaluate(toys.Noise(), every_steps=4)
  at_the_end = hooks.Publish()
  due = {step: [] for step in range(1, 11)}
  for run.step in due:
    due[run.step] = [every_four.due(run), at_the_end.due(run)]
  assert [step for step, (first, _) in due.items() if first] == [4, 8, 10]
  assert [step for step, (_, second) in due.items() if second] == [10]


def test_bundle_carries_weights_and_gin_config(run):
  run.gin_config = lambda: 'A = 1'
  hooks.Publish(every_steps=2)(run)
  loaded = bundle.load(run.model_dir, kind='toy')
  jax.tree.map(
    np.testing.assert_array_equal,
    loaded.weights,
    jax.device_get({'params': run.state.params, **run.state.collections}),
  )
  assert (run.model_dir / bundle.CONFIG_GIN).read_text() == 'A = 1'


def test_profile_covers_the_steps_that_it_names(run, monkeypatch):
  calls = []
  monkeypatch.setattr(
    jax.profiler, 'start_trace', lambda path: calls.append((run.step, path))
  )
  monkeypatch.setattr(
    jax.profiler, 'stop_trace', lambda: calls.append((run.step, 'stop'))
  )
  hook = hooks.Profile(first_step=4, last_step=6)
  for run.step in range(1, 11):
    if hook.due(run):
      hook(run)
  assert calls == [(3, str(run.model_dir / 'profile')), (6, 'stop')]


def test_profile_has_what_is_left_of_its_steps_where_a_run_resumes(
  run, monkeypatch
):
  calls = []
  monkeypatch.setattr(
    jax.profiler, 'start_trace', lambda path: calls.append(run.step)
  )
  monkeypatch.setattr(
    jax.profiler, 'stop_trace', lambda: calls.append(-run.step)
  )
  for resumed in (5, 6):
    hook = hooks.Profile(first_step=4, last_step=7)
    for run.step in range(resumed, 11):
      if hook.due(run):
        hook(run)
  assert calls == [5, -7, 6, -7]
  run.step, run.stopping = 3, True
  assert not hooks.Profile(first_step=4, last_step=7).due(run)


def test_profile_ends_with_a_run_that_is_stopped(run, monkeypatch):
  stopped = []
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda path: None)
  monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: stopped.append(1))
  hook = hooks.Profile(first_step=4, last_step=6)
  run.step = 3
  hook(run)
  run.step, run.stopping = 4, True
  assert hook.due(run)
  hook(run)
  assert stopped == [1]


def test_profile_of_the_step_that_compiles_is_an_error():
  with pytest.raises(ValueError, match='2 <= first_step'):
    hooks.Profile(first_step=1, last_step=3)


class Counted(toys.Reconstruction):
  """Counts which of three levels each valid sample has."""

  def evaluate(self, variables, batch, key):
    evaluation = super().evaluate(variables, batch, key)
    levels = jnp.clip(batch[batches.WAVEFORM] * 2, -1, 1).astype('int32') + 1
    histogram = Histogram.of(levels, batch[batches.SAMPLE_MASK], num_values=3)
    return evaluation.replace(histograms={'toy/levels': histogram})


def test_histograms_are_summed_over_batches_before_anything_is_made_of_them(
  run,
):
  run.training = Training(
    objective=Counted(), optimizer=optimizers.adam(learning_rate=0.1)
  )
  hooks.Evaluate(Finite(seed=1), every_steps=2)(run)
  counts = np.zeros(3)
  for position in range(3):
    batch = Finite(seed=1).batch(position)
    valid = batch[batches.WAVEFORM][batch[batches.SAMPLE_MASK]]
    levels = np.clip(valid * 2, -1, 1).astype(int) + 1
    counts += np.bincount(levels, minlength=3)
  shares = counts / counts.sum()
  entropy = -np.sum(shares * np.log(shares))
  found = {
    name: run.figures[f'evaluate/toy/levels/{name}']
    for name in ('entropy', 'perplexity', 'largest_share')
  }
  wanted = {
    'entropy': entropy,
    'perplexity': np.exp(entropy),
    'largest_share': shares.max(),
  }
  assert found == pytest.approx(wanted, rel=1e-5)
  assert run.writer.figures == {4: run.figures}
