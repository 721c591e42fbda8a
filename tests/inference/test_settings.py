# SPDX-License-Identifier: Apache-2.0
import dataclasses

from musiclm_jax.inference import sampling
from musiclm_jax.inference.settings import SamplingConfig


def test_the_defaults_are_the_papers():
  config = SamplingConfig()
  temperatures = [
    getattr(config, stage).temperature
    for stage in ('semantic', 'coarse', 'fine')
  ]
  assert temperatures == [1.0, 0.95, 0.4]
  assert config.guidance_scale is None
  assert config.fine == sampling.Categorical(temperature=0.4)


def test_stages_that_see_no_condition_are_not_guided(music_lm):
  config = SamplingConfig(guidance_scale=3.0, coarse=sampling.greedy)
  cascade = config.apply(music_lm.cascade)
  scales = [
    getattr(cascade, stage).decoding.guidance_scale
    for stage in ('semantic', 'coarse', 'fine')
  ]
  assert scales == [3.0, 3.0, None]
  assert cascade.coarse.decoding.sampler is sampling.greedy
  assert cascade.coarse.params is music_lm.cascade.coarse.params


def test_caches_grow_three_times_at_most(music_lm):
  for stage in ('semantic', 'coarse', 'fine'):
    decoder = getattr(SamplingConfig().apply(music_lm.cascade), stage)
    length = decoder.config.layout.length
    segment = decoder.decoding.segment_length
    assert segment % 128 == 0
    assert -(-length // segment) <= 4
  assert dataclasses.fields(SamplingConfig)
