# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import pytest

from musiclm_jax.inference import sampling, settings
from musiclm_jax.inference.settings import SamplingConfig
from tests.inference import toys


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
  unguided = SamplingConfig(guidance_scale=1.0).apply(music_lm.cascade)
  assert unguided.semantic.decoding.guidance_scale is None


def test_what_a_model_states_comes_back_and_the_defaults_are_not_said():
  fields = json.loads(json.dumps(settings.to_fields(toys.GUIDED)))
  assert list(fields) == ['sampling']
  assert settings.of_fields(fields, path='a') == toys.GUIDED
  assert settings.to_fields(SamplingConfig()) == {}
  assert settings.of_fields({}, path='a') == SamplingConfig()


def changed(**stages):
  return settings.to_fields(toys.GUIDED)['sampling'] | stages


def changed_number(name, number):
  fine = changed()['fine']
  return changed(fine=fine | {name: number})


@pytest.mark.parametrize(
  'stated, match',
  [
    ({'guidance': 3}, 'a.json states its sampling as .*three Categorical'),
    # Where types are checked, as here, they say so before we do.
    (changed(fine={'temperature': 1.0}), 'three Categorical|cannot be read'),
    (changed_number('temperature', -1.0), "'sampling' cannot be read.*-1.0"),
    (changed_number('temperature', 'hot'), "'sampling' cannot be read"),
    (changed_number('volume', 11), "no field .'volume'"),
  ],
)
def test_what_is_no_sampling_is_named_with_its_file(stated, match):
  with pytest.raises(ValueError, match=match) as caught:
    settings.of_fields({'sampling': stated}, path='a.json')
  assert 'a.json' in str(caught.value)


def test_a_model_cannot_state_a_sampler_that_flags_cannot_change():
  config = SamplingConfig(fine=sampling.greedy)
  with pytest.raises(ValueError, match='A model states .*three Categorical'):
    settings.to_fields(config)


def test_caches_grow_three_times_at_most(music_lm):
  for stage in ('semantic', 'coarse', 'fine'):
    decoder = getattr(SamplingConfig().apply(music_lm.cascade), stage)
    length = decoder.config.layout.length
    segment = decoder.decoding.segment_length
    assert segment % 128 == 0
    assert -(-length // segment) <= 4
  assert dataclasses.fields(SamplingConfig)
