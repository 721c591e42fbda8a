# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from musiclm_jax.benchmark import mulan
from musiclm_jax.mulan.objective import MulanObjective
from tests.mulan import toys

OBJECTIVE = MulanObjective(model=toys.config())


def test_flops_grow_with_the_pairs_and_not_with_the_parts():
  def flops(objective, pairs):
    batch = mulan.random_batch(objective, batch_size=pairs)
    return mulan.train_flops(objective, batch)

  whole = flops(OBJECTIVE, 8)
  in_parts = dataclasses.replace(OBJECTIVE, tower_rows=4)
  assert flops(in_parts, 8) == whole
  # All but the products of everybody with everybody is the pairs' own.
  others = 3 * 2 * toys.config().embed_dim
  assert whole - 2 * flops(OBJECTIVE, 4) < 4 * others * 8**2
  # The text tower's share, by hand: 11 tokens of a layer of width 16 and 24.
  of_text = 11 * 2 * (4 * 16**2 + 2 * 16 * 24 + 2 * 11 * 16) + 2 * 16 * 8
  assert whole / 8 > 3 * of_text


@pytest.mark.slow
def test_steps_are_timed_beside_the_limit():
  measured = mulan.measure_training(OBJECTIVE, batch_size=4, num_runs=2)
  assert measured.benchmark == 'mulan/train'
  assert 0 < measured.share_of_gemm <= measured.best_share_of_gemm < 1
  assert measured.audio_seconds_per_second > 0
  assert measured.num_runs == 2 and measured.batch_size == 4


def test_the_vocabulary_costs_what_that_of_bert_costs():
  assert len(mulan.vocabulary().tokens) == 30522
