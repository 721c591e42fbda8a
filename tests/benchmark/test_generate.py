# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest
from flax.core import meta

from musiclm_jax.benchmark import generate, limits
from musiclm_jax.benchmark.limits import Limits
from musiclm_jax.codec.soundstream import SoundStreamConfig
from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.inference.settings import SamplingConfig
from musiclm_jax.layers.transformer import TransformerConfig
from musiclm_jax.quantization.residual import ResidualQuantizerConfig
from musiclm_jax.stages import lm

BODY = TransformerConfig(
  num_layers=1, num_heads=2, embed_dim=8, mlp_dim=11, dropout_rate=0.0
)
PIPELINE = generate.Pipeline(
  transformer=BODY,
  codec=SoundStreamConfig(
    sample_rate_hz=300,
    channels=2,
    strides=(2, 3),
    embed_dim=7,
    quantizer=ResidualQuantizerConfig(num_levels=5, codebook_size=13),
  ),
)


@pytest.fixture
def known_limits(monkeypatch):
  """Instead of seconds of products."""
  found = Limits(flops_per_second=1e9, bytes_per_second=2e9)
  monkeypatch.setattr(limits, 'measure', lambda **_: found)


def abstract(pipeline):
  """Stages without weights, which a limit does not depend on."""
  decoders = {}
  for spec in pipeline.specs():
    model = lm.StageLMConfig(spec=spec, transformer=pipeline.transformer)
    tokens = jax.ShapeDtypeStruct((1, model.layout.length), jnp.int32)
    shapes = jax.eval_shape(lm.StageLM(model).init, jax.random.key(0), tokens)
    params = meta.unbox(shapes)['params']
    decoders[spec.name] = StageDecoder(config=model, params=params)
  return SamplingConfig(guidance_scale=3.0).apply(Cascade(**decoders))


@pytest.fixture
def bytes_read():
  """By a step: weights, and what a position of one row has in the cache."""
  weights = 4 * 8**2 + 3 * 8 * 11 + 3 * 8 + 32 * 2
  return weights, 2 * 8


def test_a_limit_is_what_is_read_step_by_step(known_limits, bytes_read):
  weights, cached = bytes_read
  cascade = abstract(PIPELINE)
  order = generate._order(cascade, batch_size=2, audio_seconds=7)
  found = {
    name: generate._stage_cost(
      cascade, name, order=order, limits=limits.measure()
    )
    for name in ('semantic', 'coarse', 'fine')
  }
  # 10 s of semantic codes for a coarse window, 7 s of coarse codes, and three
  # fine windows at once.
  assert {name: steps for name, (steps, _) in found.items()} == {
    'semantic': 250,
    'coarse': 7 * 50 * 4,
    'fine': 150,
  }
  start = 1 + (1 + 12) + 1
  read = 250 * (weights + 1024 * 8 + 4 * cached * (2 * start + 250) / 2)
  assert found['semantic'][1] == pytest.approx(4 * read / 2e9)
  start = 1 + (1 + 150 * 4) + 1
  read = 150 * (weights + 13 * 8 + 3 * 2 * cached * (2 * start + 150) / 2)
  assert found['fine'][1] == pytest.approx(4 * read / 2e9)


@pytest.mark.slow
def test_the_whole_is_the_sum_of_its_parts(known_limits):
  lines = {
    line.benchmark: line
    for line in generate.measure(PIPELINE, audio_seconds=3, num_runs=1)
  }
  *parts, whole = (lines[f'generate/{name}'] for name in (*_parts(), 'all'))
  assert whole.seconds == pytest.approx(sum(part.seconds for part in parts))
  assert whole.limit_seconds == pytest.approx(
    sum(part.limit_seconds for part in parts)
  )
  assert whole.audio_seconds_per_second == pytest.approx(3 / whole.seconds)
  assert whole.guidance_scale == 3.0


def _parts():
  return 'semantic', 'coarse', 'fine', 'codec'


def test_a_fine_stage_can_see_the_condition_too():
  (condition, _) = (
    generate.Pipeline(
      transformer=BODY, codec=PIPELINE.codec, fine_is_conditioned=True
    )
    .specs()[2]
    .inputs
  )
  assert condition.stream.name == 'mulan'
  assert len(PIPELINE.specs()[2].inputs) == 1
