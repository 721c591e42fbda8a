# SPDX-License-Identifier: Apache-2.0
"""A codec whose error is known level by level, as if it were in training."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from musiclm_jax.checkpoints import bundle
from musiclm_jax.evaluation import codec_hook
from musiclm_jax.training import hooks, optimizers, step
from musiclm_jax.training import state as train_state
from musiclm_jax.training.partitioning import Partitioner
from tests.evaluation import toy_codec
from tests.training import toys
from tests.training.test_hooks import Recorder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  def make_codec(self, weights, *, stream):
    np.testing.assert_array_equal(weights['params']['seen'], np.arange(3))
    return toy_codec.ToyCodec()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Publishing(step.Training):
  """Of which a hook sees what would be published."""

  kind: str = 'codec'

  def bundle(self, state):
    return bundle.BundleContents(
      kind=self.kind,
      config=Config(),
      weights={'params': state.params},
      stream_out=toy_codec.ToyCodec.stream,
    )


def run_of(tmp_path, **options):
  return hooks.Run(
    model_dir=tmp_path,
    training=Publishing(
      objective=toys.Regression(),
      optimizer=optimizers.adam(learning_rate=0.1),
      **options,
    ),
    partitioner=Partitioner(data=8),
    writer=Recorder(),
    gin_config=str,
    num_steps=11,
    step=3,
    state=train_state.first_state(
      0,
      params={'seen': np.arange(3.0)},
      collections={},
      opt_state=(),
      averaged=None,
    ),
    beat=mock.Mock(),
  )


def hook_of():
  draw = np.random.default_rng(0)
  return codec_hook.EvaluateCodec(
    [draw.uniform(-1, 1, 24_007).astype(np.float32) for _ in range(2)],
    every_steps=3,
    levels=(1, 2),
    metrics={'error': lambda a, b, sample_rate_hz: float(np.abs(a - b).max())},
  )


def test_each_number_of_levels_has_its_figure(tmp_path):
  run, hook = run_of(tmp_path), hook_of()
  assert hook.due(run) and not hook.due(dataclasses.replace(run, step=4))
  hook(run)
  assert run.figures == pytest.approx(
    {
      'copies/error/levels_1': 0.2,
      'copies/error/levels_2': 0.04,
      'copies/error/levels_3': 0.008,
    },
    rel=0.01,
  )
  assert run.writer.figures == {3: run.figures}
  assert run.beat.call_count == 2  # Clips.


def test_a_run_of_another_kind_is_refused_after_the_first_step(tmp_path):
  first = dataclasses.replace(run_of(tmp_path, kind='stage'), step=1)
  with pytest.raises(ValueError, match="this run trains a 'stage'"):
    hook_of().due(first)
