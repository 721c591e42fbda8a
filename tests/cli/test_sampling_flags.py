# SPDX-License-Identifier: Apache-2.0
from musiclm_jax.cli import flags, sampling_flags
from musiclm_jax.inference.sampling import Categorical
from tests.inference.toys import GUIDED


def read(*options, own=GUIDED):
  parser = flags.Parser(prog='musiclm')
  sampling_flags.add(parser)
  return sampling_flags.read(parser.parse_args(options), own=own)


def test_without_flags_all_is_the_models_own():
  assert read() == GUIDED


def test_settings_are_for_all_stages_or_for_each():
  config = read('--temperature=1,0.5,0', '--top_k=5')
  assert config.semantic == Categorical(temperature=1.0, top_k=5)
  assert config.coarse == Categorical(temperature=0.5, top_k=5)
  assert config.fine == Categorical(temperature=0.0, top_k=5)


def test_each_flag_replaces_its_own_number_alone():
  assert read('--guidance=1').guidance_scale == 1
  assert read('--guidance=1').coarse == GUIDED.coarse
  config = read('--top_p=0.7')
  assert config.guidance_scale == GUIDED.guidance_scale
  assert config.coarse == Categorical(temperature=0.9, top_k=7, top_p=0.7)
  assert config.fine == Categorical(temperature=0.4, top_p=0.7)
