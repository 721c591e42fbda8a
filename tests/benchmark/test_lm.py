# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest

from musiclm_jax.benchmark import limits, lm
from musiclm_jax.benchmark.limits import Limits
from musiclm_jax.cli import benchmark, flags
from musiclm_jax.stages import lm as stages_lm


@pytest.fixture
def known_limits(monkeypatch):
  """Instead of seconds of products."""
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)


def test_model_has_the_weights_of_the_benchmark():
  config = lm.config()
  tokens = jax.ShapeDtypeStruct((1, config.layout.length), jnp.int32)
  shapes = jax.eval_shape(
    stages_lm.StageLM(config).init, jax.random.key(0), tokens
  )
  weights = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  body = 6 * (4 * 512**2 + 3 * 512 * 1365)
  table = 1024 * 512
  # The second table, its four special ids, norms and the table of biases.
  assert weights == body + 2 * table + 4 * 512 + 13 * 512 + 32 * 8
  assert round((body + table) * 4 / 1e6, 1) == 77.6


@pytest.mark.parametrize(
  'measure, limited_by, limit',
  [
    (lm.measure_decoding, 'bandwidth', 2e9),
    (lm.measure_training, 'products', 1e9),
  ],
)
def test_figures_are_laid_beside_the_limit(
  known_limits, measure, limited_by, limit
):
  config = lm.config(num_codes=12, num_layers=1)
  measured = measure(config, batch_size=2, num_runs=2)
  assert measured.limited_by == limited_by
  assert measured.limit == limit
  weights = 4 * 512**2 + 3 * 512 * 1365 + 1024 * 512 + 3 * 512 + 32 * 8
  cost = {
    'bandwidth': 4 * (weights + 2 * 2 * 512 * 12 / 2) / 2,
    'products': 6 * weights + 12 * 512 * 12,
  }[limited_by]
  assert measured.limit_tokens_per_second == pytest.approx(limit / cost)
  assert measured.share_of_limit == pytest.approx(
    measured.tokens_per_second / measured.limit_tokens_per_second
  )
  assert measured.best_tokens_per_second >= measured.tokens_per_second > 0
  assert measured.num_runs == 2


def test_int8_kernels_are_bytes_of_their_limit(known_limits):
  measured = lm.measure_decoding(
    lm.config(num_codes=12, num_layers=1),
    batch_size=2,
    dtype='int8',
    num_runs=1,
  )
  kernels = 4 * 512**2 + 512 * (2 * 1365 + 1376)  # With zeros up to 16s.
  scales = 3 * 512 + 512 * 8 + 2 * 1365 + 512  # Of `out` one a head.
  others = 1024 * 512 + 3 * 512 + 32 * 8 + 2 * 2 * 512 * 12 / 2
  cost = (kernels + 4 * (scales + others)) / 2
  assert measured.limit_tokens_per_second == pytest.approx(2e9 / cost)
  assert measured.dtype == 'int8'
  with pytest.raises(flags.UsageError, match='trained in int8; add --only dec'):
    benchmark.main(['lm', '--dtype=int8'])


def test_device_is_named():
  assert 'x' in limits.device_name()


@pytest.mark.slow
def test_limits_are_positive_and_the_better_of_two_is_kept():
  found = limits.measure(num_runs=1)
  assert found.flops_per_second > 1e8
  assert found.bytes_per_second > 1e7
  better = found | Limits(flops_per_second=1e18, bytes_per_second=1.0)
  assert better.flops_per_second == 1e18
  assert better.bytes_per_second == found.bytes_per_second
