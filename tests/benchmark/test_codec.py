# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import numpy as np
import pytest
from flax.core import meta

from musiclm_jax import batches
from musiclm_jax.benchmark import codec, limits
from musiclm_jax.benchmark.limits import Limits
from musiclm_jax.codec import discriminators
from musiclm_jax.codec.objective import SoundStreamObjective
from musiclm_jax.codec.soundstream import SoundStream, SoundStreamConfig
from musiclm_jax.quantization.residual import ResidualQuantizerConfig
from musiclm_jax.training import products


@pytest.fixture
def known_limits(monkeypatch):
  """Instead of seconds of products."""
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)


def config(*, channels=5, strides=(2, 3), embed_dim=7, levels=3, size=17):
  return SoundStreamConfig(
    sample_rate_hz=600,
    channels=channels,
    strides=strides,
    embed_dim=embed_dim,
    quantizer=ResidualQuantizerConfig(num_levels=levels, codebook_size=size),
    weight_norm=False,
  )


def test_the_flops_of_the_base_codec_are_those_of_the_layers():
  base = SoundStreamConfig(
    sample_rate_hz=24_000,
    channels=32,
    strides=(3, 4, 5, 8),
    embed_dim=256,
    quantizer=ResidualQuantizerConfig(num_levels=12, codebook_size=1024),
  )
  assert codec.encode_flops(base) == pytest.approx(6.879e9, rel=1e-3)
  assert codec.decode_flops(base) == pytest.approx(6.617e9, rel=1e-3)


@pytest.mark.parametrize('method', ('encode', 'decode'))
def test_flops_on_paper_are_those_that_are_traced(method):
  sizes = config()
  module = SoundStream(sizes)
  waveform = np.zeros((1, 600), np.float32)
  key = jax.random.key(0)
  variables = meta.unbox(jax.eval_shape(module.init, key, waveform, key=key))
  inputs = {'encode': waveform, 'decode': np.zeros((1, 100, 3), np.int32)}
  traced = products.flops_of(
    functools.partial(module.apply, method=method), variables, inputs[method]
  )
  on_paper = {'encode': codec.encode_flops, 'decode': codec.decode_flops}
  assert traced == on_paper[method](sizes)


@pytest.mark.slow
def test_figures_are_laid_beside_the_limit(known_limits):
  encode, decode = codec.measure(config(), seconds=2, batch_size=2, num_runs=3)
  assert (encode.benchmark, decode.benchmark) == (
    'codec/encode',
    'codec/decode',
  )
  for found, flops in (
    (encode, codec.encode_flops(config())),
    (decode, codec.decode_flops(config())),
  ):
    assert found.flops_per_audio_second == flops
    assert found.flops_per_second == pytest.approx(
      flops * found.audio_seconds_per_second
    )
    assert found.share_of_gemm == pytest.approx(found.flops_per_second / 1e9)
    assert found.best_share_of_gemm >= found.share_of_gemm > 0
    assert found.num_runs == 3


def small_objective():
  return SoundStreamObjective(
    codec=config(),
    discriminators=discriminators.DiscriminatorsConfig(
      members=(discriminators.WaveConfig(channels=4, max_channels=8),)
    ),
  )


def test_a_training_step_counts_both_players():
  objective = small_objective()
  waveform = np.zeros((1, 600), np.float32)
  batch = {
    batches.WAVEFORM: waveform,
    batches.SAMPLE_MASK: np.ones(waveform.shape, bool),
  }
  generator = codec.encode_flops(config()) + codec.decode_flops(config())
  total = codec.train_flops(objective, batch)
  variables = meta.unbox(
    jax.eval_shape(objective.init, jax.random.key(0), batch)
  )
  judged = products.flops_of(
    objective.judge, variables['discriminator']['params'], batch, waveform
  )
  assert judged > 0
  assert total == round(3 * generator + 3.5 * judged)


@pytest.mark.slow
def test_training_is_measured(known_limits, monkeypatch):
  found = codec.measure_training(small_objective(), seconds=2, num_runs=2)
  assert found.benchmark == 'codec/train'
  assert found.audio_seconds_per_second > 0
  assert found.compile_seconds > 0
