# SPDX-License-Identifier: Apache-2.0
"""A run of MuLan that stops and goes on does not show it, bit for bit."""

import jax
import numpy as np
import pytest

from musiclm_jax.mulan import model, objective
from musiclm_jax.training import hooks, loop, optimizers
from musiclm_jax.training.partitioning import Partitioner
from musiclm_jax.training.step import Training
from tests.mulan import toys

ROWS = 8


class Pairs:
  batch_size = ROWS

  def batches(self, start, *, process_index=0, process_count=1):
    assert (process_index, process_count) == (0, 1)
    while True:
      yield toys.batch(ROWS, seed=start, missing=(1,))
      start += 1


def train(folder, *, num_steps):
  # Dropout, SpecAugment, an average and parts: all that a step may draw.
  return loop.train(
    model_dir=str(folder),
    training=Training(
      objective=objective.MulanObjective(
        model=toys.config(dropout_rate=0.2), tower_rows=4, block_rows=4
      ),
      optimizer=optimizers.adamw(learning_rate=0.01, clip_norm=1.0),
      ema_decay=0.9,
    ),
    batches=Pairs(),
    num_steps=num_steps,
    save_every_steps=3,
    log_every_steps=1,
    partitioner=Partitioner(data=2),
    hooks=[hooks.Publish()],
  )


@pytest.mark.slow
def test_a_run_that_goes_on_equals_the_uninterrupted_one(tmp_path):
  whole = train(tmp_path / 'whole', num_steps=7)
  train(tmp_path / 'cut', num_steps=3)
  resumed = train(tmp_path / 'cut', num_steps=7)
  jax.tree.map(np.testing.assert_array_equal, resumed, whole)
  assert int(resumed.num_skipped) == 0
  # What it publishes can be used.
  towers = model.load_towers(tmp_path / 'cut')
  same = model.load_towers(tmp_path / 'whole')
  texts = toys.TEXTS[:2]
  np.testing.assert_array_equal(
    towers.embed_text(texts), same.embed_text(texts)
  )
