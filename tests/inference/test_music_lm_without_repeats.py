# SPDX-License-Identifier: Apache-2.0
"""A model whose semantic codes are of runs makes what was asked for."""

import dataclasses

import jax
import numpy as np
import pytest

from musiclm_jax.inference import assembly
from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.request import Request
from tests.inference import toys

SHARE = '2/5'
COMPILED = '/jax/core/compile/backend_compile_duration'

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def music_lm(tmp_path_factory):
  directory = tmp_path_factory.mktemp('runs')
  folders = {name: directory / name for name in assembly.TOKENIZERS}
  streams = toys.publish_tokenizers(folders)
  stages = {name: directory / 'stages' / name for name in assembly.STAGES}
  semantic, coarse, fine = toys.specs(**streams)
  runs = dataclasses.replace(semantic.output, distinct_share=SHARE)
  for spec in (
    dataclasses.replace(semantic, output=runs),
    dataclasses.replace(coarse, inputs=(coarse.inputs[0], runs)),
    fine,
  ):
    toys.publish_stage(stages[spec.name], spec)
  assembly.write(directory, **folders, stages=stages)
  return MusicLM.load(directory)


def test_pieces_of_any_length_are_whole_and_the_beginning_of_longer_ones(
  music_lm,
):
  short = music_lm.compose(Request(prompts='calm', seconds=3, seed=5))
  assert short.waveform.shape == (1, 3 * toys.RATE_HZ)
  # 15 frames of 5 a second, of which two in five begin a run.
  assert short.semantic.shape == (1, 6, 1)
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event)
  )
  long = music_lm.compose(Request(prompts='calm', seconds=9, seed=5))
  count = compiled.count(COMPILED)
  # As many windows, and so the same buckets.
  again = music_lm.compose(Request(prompts='a drum', seconds=8.8, seed=7))
  assert count and compiled.count(COMPILED) == count
  assert again.semantic.shape == (1, 18, 1)
  assert long.semantic.shape == (1, 18, 1)
  np.testing.assert_array_equal(long.semantic[:, :6], short.semantic)
  np.testing.assert_array_equal(
    long.acoustic[:, :30, :2], short.acoustic[..., :2]
  )
  codes = long.semantic[0, :, 0]
  assert codes.min() >= 0 and np.all(codes[1:] != codes[:-1])


def test_streamed_audio_joins_to_the_whole_of_a_story(music_lm):
  story = {'prompts': [(0, 'calm'), (3.1, 'a drum')], 'seconds': 6, 'seed': 3}
  whole = music_lm.generate(**story)
  parts = list(music_lm.generate(**story, stream=True))
  np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
  plain = music_lm.compose(Request(prompts='calm', seconds=6, seed=3))
  changed = music_lm.compose(Request(**story))
  # 3.2 s, the next tick, hold 16 frames and 7 codes.
  np.testing.assert_array_equal(changed.semantic[:, :7], plain.semantic[:, :7])
  np.testing.assert_array_equal(
    changed.acoustic[:, :32], plain.acoustic[:, :32]
  )


def test_a_continuation_keeps_the_runs_of_its_beginning(music_lm):
  begun = np.repeat([0.1, 0.7, 0.3], [36, 24, 12]).astype(np.float32)
  went_on = music_lm.compose(
    Request(seconds=3, continue_from=begun, sample_rate_hz=toys.RATE_HZ)
  )
  codes = music_lm.codec.encode(begun[None], sample_rate_hz=toys.RATE_HZ)
  np.testing.assert_array_equal(went_on.acoustic[:, :12], codes[:, :12])
  given = music_lm.semantic().encode(begun, sample_rate_hz=toys.RATE_HZ)[0]
  assert given.tolist() == [1, 1, 1, 8, 8, 3]
  assert went_on.semantic[0, :3, 0].tolist() == [1, 8, 3]
  assert went_on.semantic.shape == (1, 3 + 9 * 2 // 5, 1)
  assert went_on.waveform.shape == (1, 3 * toys.RATE_HZ)
