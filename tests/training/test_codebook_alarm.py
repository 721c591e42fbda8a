# SPDX-License-Identifier: Apache-2.0
import logging
import pathlib

import pytest

from musiclm_jax.training import optimizers
from musiclm_jax.training.codebook_alarm import CodebookAlarm
from musiclm_jax.training.hooks import Hook, Run
from musiclm_jax.training.metrics_writer import MetricsWriter
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.state import first_state
from musiclm_jax.training.step import Training
from tests.training import toys

FIGURE = 'evaluate/toy/perplexity'


class Recorder(MetricsWriter):
  """A writer that remembers instead."""

  def __init__(self):
    self.written = []

  def scalars(self, step, figures):
    self.written.append((step, figures))


def new_run():
  """A run of which the alarm sees its steps and figures alone."""
  return Run(
    model_dir=pathlib.Path(),
    training=Training(
      objective=toys.Regression(),
      optimizer=optimizers.adam(learning_rate=0.1),
    ),
    partitioner=Partitioner(data=1),
    writer=Recorder(),
    gin_config=str,
    num_steps=1000,
    step=0,
    state=first_state(
      0, params={}, collections={}, opt_state=(), averaged=None
    ),
  )


def watch(perplexities, **settings):
  """What the alarm writes of each evaluation."""
  settings = {'num_evaluations': 2} | settings
  alarm = CodebookAlarm(
    figure=FIGURE, min_perplexity=8.0, every_steps=10, **settings
  )
  assert isinstance(alarm, Hook)
  run = new_run()
  for perplexity in perplexities:
    run.step += 10
    assert alarm.due(run)
    run.figures = {FIGURE: perplexity}
    alarm(run)
  return [
    figures['health/codebook_collapsed'] for _, figures in run.writer.written
  ]


def test_it_waits_for_several_low_evaluations_in_a_row(caplog):
  with caplog.at_level(logging.ERROR, logger='absl'):
    assert watch([9, 7, 8, 7, 6, 5, 9]) == [0, 0, 0, 0, 1, 1, 0]
  messages = [record.getMessage() for record in caplog.records]
  assert len(messages) == 2
  assert 'THE CODEBOOK HAS COLLAPSED' in messages[0]
  assert f'{FIGURE} is 6.00 at step 50, below 8 for 2' in messages[0]
  assert all(record.levelno == logging.ERROR for record in caplog.records)


def test_a_healthy_codebook_is_not_spoken_of(caplog):
  assert watch([8, 20, 40]) == [0, 0, 0]
  assert not caplog.records


def test_what_is_no_number_is_low():
  assert watch([float('nan')] * 2) == [0, 1]


def test_it_comes_with_the_evaluations_only():
  alarm = CodebookAlarm(figure=FIGURE, min_perplexity=8.0, every_steps=10)
  run = new_run()
  run.step = 7
  assert not alarm.due(run)


def test_a_figure_that_nobody_made_is_an_error():
  alarm = CodebookAlarm(
    figure='evaluate/other', min_perplexity=8.0, every_steps=1
  )
  run = new_run()
  run.figures = {FIGURE: 3.0}
  with pytest.raises(ValueError, match="no figure 'evaluate/other' .* after"):
    alarm(run)


def test_no_evaluation_at_all_is_an_error():
  with pytest.raises(ValueError, match='num_evaluations is 0'):
    watch([], num_evaluations=0)
