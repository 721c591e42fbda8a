# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from musiclm_jax.inference.music_lm import MusicLM
from musiclm_jax.inference.request import Request
from musiclm_jax.inference.settings import SamplingConfig
from tests.inference import toys

COMPILED = '/jax/core/compile/backend_compile_duration'
TWO = ['slow piano waltz', 'fast accordion reel']

# A little over two coarse windows: the semantic, coarse and fine stages all
# take more than one.
SECONDS = 7


def compose(music_lm, prompts=TWO, *, seconds=SECONDS, **options):
  return music_lm.compose(Request(prompts=prompts, seconds=seconds, **options))


@pytest.fixture(scope='session')
def music(music_lm):
  return compose(music_lm)


def beginning(seconds, *, rate_hz=toys.RATE_HZ):
  time = np.arange(int(seconds * rate_hz)) / rate_hz
  return (0.8 * np.sin(5 * time) * np.cos(2 * time)).astype(np.float32)


def test_a_text_becomes_as_much_audio_as_was_asked_for(music_lm, music):
  assert music.waveform.shape == (2, SECONDS * toys.RATE_HZ)
  assert music.waveform.dtype == np.float32
  assert music.semantic.shape == (2, 5 * SECONDS, 1)
  assert music.acoustic.shape == (2, 10 * SECONDS, 5)
  for codes, stream in (
    (music.semantic, toys.SEMANTIC),
    (music.acoustic, toys.CODEC.stream),
  ):
    assert codes.min() >= 0 and codes.max() < stream.codebook_size
  np.testing.assert_array_equal(
    music.waveform, music_lm.codec.decode(music.acoustic)
  )
  assert not np.array_equal(music.acoustic[0], music.acoustic[1])
  assert music.prompts == tuple(TWO)
  parts = {'prompt', 'semantic', 'coarse', 'fine', 'codec'}
  assert set(music.seconds) == parts
  assert all(seconds > 0 for seconds in music.seconds.values())


def test_generate_gives_the_waveform_alone(music_lm, music):
  np.testing.assert_array_equal(
    music_lm.generate(TWO, seconds=SECONDS), music.waveform
  )


def test_a_piece_does_not_depend_on_its_mates_or_its_place(music_lm, music):
  turned = compose(music_lm, TWO[::-1])
  np.testing.assert_array_equal(turned.waveform, music.waveform[::-1])
  others = compose(music_lm, [TWO[1], 'a drum'], seed=[0, 5])
  np.testing.assert_array_equal(others.waveform[0], music.waveform[1])


def test_a_piece_alone_has_the_codes_that_it_has_with_others(music_lm, music):
  alone = compose(music_lm, TWO[1])
  np.testing.assert_array_equal(alone.acoustic[0], music.acoustic[1])


def test_samples_draw_from_seeds_that_follow_each_other(music_lm, music):
  samples = compose(music_lm, TWO[0], num_samples=2, seed=6)
  assert samples.seeds.tolist() == [6, 7]
  assert not np.array_equal(samples.semantic[0], samples.semantic[1])
  again = compose(music_lm, [TWO[0], TWO[0]], seed=[7, 0])
  np.testing.assert_array_equal(again.acoustic[0], samples.acoustic[1])
  np.testing.assert_array_equal(again.acoustic[1], music.acoustic[0])


def test_the_beginning_does_not_depend_on_the_length(music_lm, music):
  longer = compose(music_lm, seconds=SECONDS + 3.1)
  np.testing.assert_array_equal(
    longer.semantic[:, : 5 * SECONDS], music.semantic
  )
  np.testing.assert_array_equal(
    longer.acoustic[:, : 10 * SECONDS, :2], music.acoustic[..., :2]
  )


def test_seconds_round_up_to_frames_and_the_waveform_is_cut(music_lm, music):
  made = compose(music_lm, seconds=SECONDS - 0.25)
  assert made.waveform.shape == (2, 405)
  assert made.acoustic.shape == (2, 68, 5)  # ticks of two frames
  short = compose(music_lm, seconds='0.001')
  assert short.waveform.shape == (2, 1)
  assert short.acoustic.shape == (2, 2, 5)
  np.testing.assert_array_equal(
    short.acoustic[..., :2], music.acoustic[:, :2, :2]
  )


def test_streamed_audio_joins_to_the_whole(music_lm, music):
  parts = list(music_lm.generate(TWO, seconds=SECONDS, stream=True))
  # One coarse window of 4 s, then 2 s and 1 s more, and 5 s a chunk.
  assert len(parts) == 2
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), music.waveform)


def test_music_that_is_played_is_what_is_composed(music_lm, music):
  parts = []
  request = Request(prompts=TWO, seconds=SECONDS)
  played = music_lm.play(request, heard=parts.append)
  assert len(parts) == 2
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), played.waveform)
  for field in ('waveform', 'semantic', 'acoustic', 'seeds'):
    np.testing.assert_array_equal(getattr(played, field), getattr(music, field))
  assert played.prompts == music.prompts
  assert played.seconds.keys() == music.seconds.keys()
  assert min(played.seconds.values()) > 0


def test_streaming_makes_no_more_than_what_is_heard(music_lm):
  told = []
  parts = music_lm.generate(
    TWO,
    seconds=60,
    stream=True,
    progress=lambda stage, share: told.append((stage, share)),
  )
  next(parts)
  assert max(share for _, share in told) < 0.25
  assert {stage for stage, _ in told} == {'semantic', 'coarse', 'fine'}


def test_progress_of_every_stage_ends_at_one(music_lm):
  told = {}
  compose_told = music_lm.compose(
    Request(prompts='a drum', seconds=SECONDS),
    progress=lambda stage, share: told.setdefault(stage, []).append(share),
  )
  assert compose_told.seeds.tolist() == [0]
  assert set(told) == {'semantic', 'coarse', 'fine'}
  for shares in told.values():
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_a_story_is_the_old_piece_up_to_the_change(music_lm, music):
  story = compose(music_lm, [[(0, TWO[0]), (3.1, 'a drum')], TWO[1]])
  # At the first tick of 0.2 s that begins at 3.1 s or later.
  for name, change in (('semantic', 16), ('acoustic', 32), ('waveform', 192)):
    made, plain = getattr(story, name)[0], getattr(music, name)[0]
    np.testing.assert_array_equal(made[:change], plain[:change])
    assert not np.array_equal(made[change:], plain[change:])
  # The other piece keeps its own windows.
  np.testing.assert_array_equal(story.acoustic[1], music.acoustic[1])
  assert story.prompts[0] == 'slow piano waltz | 3.1 s: a drum'


def test_a_change_that_is_none_changes_nothing_but_rounding(music_lm, music):
  """Fine windows begin anew at a change, all else goes on."""
  story = compose(music_lm, [[(0, TWO[0]), (4, TWO[0])], TWO[1]])
  np.testing.assert_array_equal(story.semantic, music.semantic)
  np.testing.assert_array_equal(
    story.acoustic[..., :2], music.acoustic[..., :2]
  )


@pytest.mark.parametrize('given_seconds', [1.7, 4.6])
def test_a_continuation_begins_with_the_codes_of_what_it_continues(
  music_lm, given_seconds
):
  begun = beginning(given_seconds)
  made = compose(music_lm, continue_from=begun, sample_rate_hz=toys.RATE_HZ)
  ticks = int(round(5 * given_seconds, 6))  # 0.1 s of 1.7 s is no whole tick.
  acoustic = music_lm.codec.encode(begun[None], sample_rate_hz=toys.RATE_HZ)
  semantic = music_lm.semantic().encode(begun, sample_rate_hz=toys.RATE_HZ)
  for row in range(2):
    np.testing.assert_array_equal(
      made.acoustic[row, : 2 * ticks], acoustic[0, : 2 * ticks]
    )
    np.testing.assert_array_equal(
      made.semantic[row, :ticks, 0], semantic[0, :ticks]
    )
  assert made.acoustic.min() >= 0
  assert made.waveform.shape == (2, SECONDS * toys.RATE_HZ)
  assert not np.array_equal(made.acoustic[0], made.acoustic[1])


def test_a_continuation_alone_is_its_own_prompt_and_streams(music_lm):
  options = {
    'continue_from': beginning(2, rate_hz=2 * toys.RATE_HZ),
    'sample_rate_hz': 2 * toys.RATE_HZ,
    'seconds': SECONDS,
  }
  whole = music_lm.generate(**options)
  parts = list(music_lm.generate(**options, stream=True))
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_audio_can_be_the_prompt(music_lm, music):
  heard = np.stack([beginning(2), -beginning(2)])
  made = music_lm.compose(
    Request(prompt_audio=heard, sample_rate_hz=toys.RATE_HZ, seconds=SECONDS)
  )
  assert made.waveform.shape == music.waveform.shape
  codes = music_lm.conditioner.encode_audio(heard, sample_rate_hz=toys.RATE_HZ)
  assert not np.array_equal(codes[0], codes[1])
  assert not np.array_equal(made.semantic[0], made.semantic[1])


def test_guidance_moves_what_is_made(music_lm, music):
  plain = music_lm.generate(TWO, seconds=1, guidance=1.0)
  np.testing.assert_array_equal(plain, music_lm.generate(TWO, seconds=1))
  guided = music_lm.generate(TWO, seconds=1, guidance=3.0)
  assert not np.array_equal(guided, plain)


def test_a_model_draws_as_it_states_where_nobody_says_otherwise(music_lm):
  own = dataclasses.replace(music_lm, sampling=toys.GUIDED)
  made = own.generate(TWO, seconds=1)
  np.testing.assert_array_equal(
    made, music_lm.generate(TWO, seconds=1, sampling=toys.GUIDED)
  )
  (streamed,) = own.generate(TWO, seconds=1, stream=True)
  np.testing.assert_array_equal(streamed, made)
  plain = own.generate(TWO, seconds=1, sampling=SamplingConfig())
  np.testing.assert_array_equal(plain, music_lm.generate(TWO, seconds=1))
  assert not np.array_equal(made, plain)
  # One number is changed, and the temperatures stay the model's.
  unguided = dataclasses.replace(toys.GUIDED, guidance_scale=None)
  np.testing.assert_array_equal(
    own.generate(TWO, seconds=1, guidance=1.0),
    music_lm.generate(TWO, seconds=1, sampling=unguided),
  )


def test_nothing_is_compiled_for_another_prompt_seed_or_length(music_lm, music):
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(event)
  )
  try:
    compose(music_lm, ['a drum', 'a bell'], seed=9)
    # As many fine windows, in as many chunks.
    compose(music_lm, ['a horn', 'a bell'], seed=3, seconds=SECONDS - 0.7)
    assert compiled.count(COMPILED) == 0
    compose(music_lm, ['a', 'b', 'c', 'd', 'e'], seconds=1)
    assert compiled.count(COMPILED) > 0  # The probe itself works.
  finally:
    jax.monitoring.clear_event_listeners()


def test_a_model_is_loaded_without_compiling(model_dir):
  compiled = []
  listen = jax.monitoring.register_event_duration_secs_listener
  listen(lambda event, _, **__: compiled.append(event))
  try:
    MusicLM.load(model_dir)
    assert compiled.count(COMPILED) == 0
    jax.jit(lambda x: x + 0.7919)(3)
    assert compiled.count(COMPILED) == 1  # The probe itself works.
  finally:
    jax.monitoring.clear_event_listeners()


def test_similarity_is_the_cosine_with_each_section(music_lm):
  music = compose(music_lm, [(0, 'calm'), (2, 'a drum')], seconds=3)
  text = music_lm.conditioner.embed_text(['calm', 'a drum'])
  audio = [
    music_lm.conditioner.embed_audio(part[None], sample_rate_hz=toys.RATE_HZ)[0]
    for part in np.split(music.waveform[0], [2 * toys.RATE_HZ])
  ]
  wanted = (2 * audio[0] @ text[0] + audio[1] @ text[1]) / 3
  np.testing.assert_allclose(music_lm.similarity(music), [wanted], atol=1e-6)


def test_pieces_that_change_apart_are_not_streamed_together(music_lm):
  with pytest.raises(ValueError, match='change at different times'):
    music_lm.generate(
      [[(0, 'calm'), (3, 'a drum')], 'calm'], seconds=4, stream=True
    )


def test_a_codec_that_cannot_stream_says_so(music_lm):
  class Whole:
    stream, sample_rate_hz, hop_samples = toys.CODEC.stream, toys.RATE_HZ, 6

    def encode(self):
      raise AssertionError

    decode = encode

  with pytest.raises(ValueError, match='a Whole, cannot decode piece by piece'):
    dataclasses.replace(music_lm, codec=Whole()).generate('a drum', stream=True)


def test_a_beginning_as_long_as_the_result_is_an_error(music_lm):
  for seconds in (4, 0.1):
    with pytest.raises(ValueError, match='those included'):
      music_lm.generate(
        'a drum',
        seconds=4,
        continue_from=beginning(seconds),
        sample_rate_hz=toys.RATE_HZ,
      )


def test_the_package_names_it(model_dir):
  import musiclm_jax

  assert musiclm_jax.MusicLM is MusicLM
