# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax.numpy as jnp
import pytest

from musiclm_jax import batches
from musiclm_jax.benchmark import limits, semantic
from musiclm_jax.benchmark.limits import Limits
from musiclm_jax.semantic.objective import W2vBertObjective
from tests.semantic import toys

OBJECTIVE = W2vBertObjective(model=toys.CONFIG)


@pytest.fixture
def known_limits(monkeypatch):
  """Instead of seconds of products."""
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)


def train_flops(model):
  batch = {
    batches.WAVEFORM: jnp.zeros((3, 31 * toys.HOP)),
    batches.SAMPLE_MASK: jnp.ones((3, 31 * toys.HOP), bool),
  }
  return semantic.train_flops(W2vBertObjective(model=model), batch)


def test_a_block_costs_what_its_products_do_on_paper():
  deeper = dataclasses.replace(toys.CONFIG, num_mlm_blocks=3)
  width, hidden, frames = 12, 20, 31
  # Two feed-forwards, four projections, three of the convolution; attention.
  weights = 4 * width * hidden + 4 * width**2 + 3 * width**2
  block = 3 * frames * 2 * (weights + 2 * frames * width)
  assert train_flops(deeper) - train_flops(toys.CONFIG) == 3 * block


def test_what_is_computed_twice_counts_once():
  assert train_flops(toys.scanned()) == train_flops(toys.CONFIG)


@pytest.mark.slow
def test_figures_are_laid_beside_the_limit(known_limits):
  encoded = semantic.measure_encoding(
    OBJECTIVE, num_mlm_blocks=1, seconds=5, batch_size=2, num_runs=3
  )
  trained = semantic.measure_training(OBJECTIVE, seconds=2, num_runs=2)
  assert encoded.benchmark == 'semantic/encode'
  assert trained.benchmark == 'semantic/train'
  assert (encoded.num_blocks, trained.num_blocks) == (2, 3)
  for found in (encoded, trained):
    done = found.flops_per_audio_second * found.audio_seconds_per_second
    assert found.share_of_gemm == pytest.approx(done / 1e9)
    assert found.best_share_of_gemm >= found.share_of_gemm > 0
