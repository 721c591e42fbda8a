# SPDX-License-Identifier: Apache-2.0
import dataclasses
import fractions
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.stages.layout import NO_CODE, StageLayout
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.streams import TokenStream

CLIP = TokenStream(name='clip', rate_hz=None, num_codebooks=2, codebook_size=5)
SLOW = TokenStream(name='slow', rate_hz=1, num_codebooks=1, codebook_size=7)
FAST = TokenStream(name='fast', rate_hz=2, num_codebooks=3, codebook_size=11)

# Rows: BOS, SEP, 2 clip codes, SEP, 2 slow codes, SEP, 4 frames × 2 levels.
TOY = StageLayout(
  StageSpec(
    name='toy',
    inputs=(Take(stream=CLIP), Take(stream=SLOW)),
    output=Take(stream=FAST, count=2),
    window_seconds=2,
  )
)
TOY_CODES = {
  'clip': np.array([[[4, 3]]]),
  'slow': np.array([[[6], [0]]]),
  'fast': np.array([[[0, 10, 9], [1, 2, 9], [3, 4, 9], [5, 6, 9]]]),
}
# Ids: clip level 0 from 0, level 1 from 5, slow from 10, fast from 17 and 28;
# BOS 39, NULL 40, PAD 41, separators 42 to 44.
TOY_ROW = [39, 42, 4, 8, 43, 16, 10, 44]
TOY_ROW += [17, 38, 18, 30, 20, 32, 22, 34]


def test_row_of_a_tiny_stage_is_as_written_by_hand():
  np.testing.assert_array_equal(TOY.pack(TOY_CODES), [TOY_ROW])
  assert TOY.vocabulary_size == 2 * 5 + 7 + 2 * 11
  assert TOY.num_ids == 45


def test_positions_of_a_tiny_stage_are_as_written_by_hand():
  np.testing.assert_array_equal(
    TOY.segment_index, [-1, -1, 0, 0, -1, 1, 1, -1] + [2] * 8
  )
  np.testing.assert_array_equal(
    TOY.frame_index, [-1, -1, 0, 0, -1, 0, 1, -1, 0, 0, 1, 1, 2, 2, 3, 3]
  )
  np.testing.assert_array_equal(
    TOY.level_index, [-1, -1, 0, 1, -1, 0, 0, -1, 0, 1, 0, 1, 0, 1, 0, 1]
  )
  np.testing.assert_array_equal(
    TOY.legal_start, [39, 42, 0, 5, 43, 10, 10, 44] + [17, 28] * 4
  )
  np.testing.assert_array_equal(
    TOY.legal_stop, [40, 43, 5, 10, 44, 17, 17, 45] + [28, 39] * 4
  )


def test_levels_of_the_output_are_those_of_the_stream():
  layout = StageLayout(
    StageSpec(
      name='rest',
      inputs=(Take(stream=FAST, count=1),),
      output=Take(stream=FAST, first=1),
      window_seconds=1,
    )
  )
  # BOS, SEP, 2 frames × level 0, SEP, 2 frames × levels 1 and 2, no padding.
  assert layout.level_index.tolist() == [-1, -1, 0, 0, -1, 1, 2, 1, 2, -1]
  assert layout.legal_start[-1] == layout.pad_id
  tokens = layout.pack({'fast': TOY_CODES['fast'][:, :2]})
  np.testing.assert_array_equal(layout.unpack(tokens), [[[10, 9], [2, 9]]])


@st.composite
def layouts(draw):
  """Any small legal stage, also one whose output is among its inputs."""
  rates = st.sampled_from([None, 1, 2, 3, fractions.Fraction(3, 2)])
  streams = [
    TokenStream(
      name=f'stream_{index}',
      rate_hz=draw(rates),
      num_codebooks=draw(st.integers(1, 3)),
      codebook_size=draw(st.sampled_from([2, 5, 7])),
    )
    for index in range(draw(st.integers(1, 3)))
  ]

  def take(stream):
    first = draw(st.integers(0, stream.num_codebooks - 1))
    count = draw(st.integers(1, stream.num_codebooks - first))
    return Take(stream=stream, first=first, count=count)

  is_input = [draw(st.booleans()) for _ in streams]
  spec = StageSpec(
    name='drawn',
    inputs=tuple(take(s) for s, taken in zip(streams, is_input) if taken),
    output=take(draw(st.sampled_from(streams))),
    window_seconds=2 * draw(st.integers(1, 3)),
  )
  return StageLayout(spec)


def codes_for(layout, seed=0, num_rows=2):
  random = np.random.default_rng(seed)
  return {
    name: random.integers(
      stream.codebook_size,
      size=(
        num_rows,
        stream.num_frames(layout.spec.window_seconds),
        stream.num_codebooks,
      ),
    )
    for name, stream in layout.spec.streams.items()
  }


@hypothesis.given(layout=layouts(), seed=st.integers(0, 99))
def test_unpack_undoes_pack_for_every_segment(layout, seed):
  codes = codes_for(layout, seed)
  tokens = layout.pack(codes)
  assert tokens.shape == (2, layout.length) and tokens.dtype == np.int32
  for segment in layout.segments:
    take = segment.take
    np.testing.assert_array_equal(
      layout.unpack(tokens, segment=segment),
      codes[take.stream.name][:, :, take.first : take.stop],
    )
  output = layout.spec.output
  np.testing.assert_array_equal(
    layout.unpack(tokens),
    codes[output.stream.name][:, :, output.first : output.stop],
  )


@hypothesis.given(layout=layouts())
def test_no_two_meanings_share_an_id_and_none_is_left_over(layout):
  ids = [layout.bos_id, layout.null_id, layout.pad_id]
  ids += [segment.separator_id for segment in layout.segments]
  assert len(ids) == layout.num_special_ids
  levels = {
    (take.stream.name, level)
    for take in layout.spec.takes
    for level in take.levels
  }
  assert set(layout.first_ids) == levels
  for (name, _), first_id in layout.first_ids.items():
    ids += range(first_id, first_id + layout.spec.streams[name].codebook_size)
  assert sorted(ids) == list(range(layout.num_ids))


@hypothesis.given(layout=layouts())
def test_an_id_of_a_code_does_not_depend_on_the_window(layout):
  longer = dataclasses.replace(
    layout.spec, window_seconds=2 * layout.spec.window_seconds
  )
  assert StageLayout(longer).first_ids == layout.first_ids
  assert StageLayout(longer).num_ids == layout.num_ids


@hypothesis.given(layout=layouts())
def test_every_position_allows_the_ids_of_its_meaning_and_no_others(layout):
  """What can stand at a position, over all codes, is exactly its range."""
  sizes = {s.codebook_size for s in layout.spec.streams.values()}
  seen = [set() for _ in range(layout.length)]
  for code in range(max(sizes)):
    row = layout.pack(
      {
        name: np.minimum(np.full_like(codes, code), stream.codebook_size - 1)
        for (name, codes), stream in zip(
          codes_for(layout).items(), layout.spec.streams.values()
        )
      }
    )[0]
    for position, token in enumerate(row):
      seen[position].add(int(token))
  for position in range(layout.length):
    start, stop = layout.legal_ids(position)
    assert seen[position] == set(range(start, stop))


@hypothesis.given(layout=layouts())
def test_loss_mask_covers_exactly_the_output(layout):
  """A target counts if and only if changing the output's codes changes it."""
  codes = codes_for(layout)
  tokens = layout.pack(codes)
  mask = layout.loss_mask(tokens)
  take = layout.spec.output
  size = take.stream.codebook_size
  others = dict(codes)
  # Inputs may hold levels of the same stream; they must not move.
  is_input = {
    level
    for other in layout.spec.inputs
    for level in other.levels
    if other.stream == take.stream
  }
  moved = [level for level in take.levels if level not in is_input]
  others[take.stream.name] = codes[take.stream.name].copy()
  others[take.stream.name][:, :, moved] += 1
  others[take.stream.name] %= size
  changed = layout.pack(others) != tokens
  by_level = np.isin(layout.level_index, moved)
  np.testing.assert_array_equal(changed, mask & by_level[None])
  assert (
    mask.sum(axis=1).tolist() == [layout.spec.num_frames(take) * take.count] * 2
  )


@hypothesis.given(layout=layouts(), seed=st.integers(0, 99))
def test_frames_that_a_short_clip_lacks_are_neither_attended_nor_learned(
  layout, seed
):
  random = np.random.default_rng(seed)
  codes = codes_for(layout, seed)
  frame_masks = {
    name: np.arange(codes[name].shape[1])[None]
    < random.integers(0, codes[name].shape[1] + 1, size=(2, 1))
    for name in codes
  }
  for name, mask in frame_masks.items():
    codes[name][~mask] = -1  # whatever stands there is not looked at
  tokens = layout.pack(codes, frame_masks=frame_masks)
  valid = layout.valid_mask(tokens)
  loss = layout.loss_mask(tokens)
  for position in range(layout.output.stop):
    index = layout.segment_index[position]
    if index < 0:
      assert valid[:, position].all() and not loss[:, position].any()
      continue
    name = layout.segments[index].take.stream.name
    has_frame = frame_masks[name][:, layout.frame_index[position]]
    np.testing.assert_array_equal(valid[:, position], has_frame)
    is_output = index == len(layout.segments) - 1
    np.testing.assert_array_equal(loss[:, position], has_frame & is_output)
  name = layout.spec.output.stream.name
  expected = codes[name][:, :, list(layout.spec.output.levels)]
  expected = np.where(frame_masks[name][:, :, None], expected, NO_CODE)
  np.testing.assert_array_equal(layout.unpack(tokens), expected)


@hypothesis.given(layout=layouts(), seed=st.integers(0, 99))
def test_prompt_shows_inputs_and_given_codes_and_asks_for_the_rest(
  layout, seed
):
  codes = codes_for(layout, seed)
  output = layout.output
  shape = (2, output.num_frames, output.take.count)
  given = np.random.default_rng(seed).random(shape) < 0.5
  prompt = layout.pack_prompt(codes, given=given)
  whole = layout.pack(codes)
  asked = prompt == layout.pad_id
  asked[:, output.stop :] = False
  np.testing.assert_array_equal(prompt, np.where(asked, layout.pad_id, whole))
  np.testing.assert_array_equal(
    asked[:, output.positions].reshape(shape), ~given
  )
  assert not asked[:, : output.start].any()


def test_prompt_of_the_fine_levels_needs_no_fine_codes():
  layout = StageLayout(
    StageSpec(
      name='rest',
      inputs=(Take(stream=FAST, count=2),),
      output=Take(stream=FAST, first=2),
      window_seconds=2,
    )
  )
  prompt = layout.pack_prompt({'fast': TOY_CODES['fast'][:, :, :2]})
  whole = layout.pack(TOY_CODES)
  start = layout.output.start
  np.testing.assert_array_equal(prompt[:, :start], whole[:, :start])
  assert (prompt[:, start:] == layout.pad_id).all()
  assert (layout.unpack(prompt) == NO_CODE).all()


def test_prompt_of_a_stage_without_inputs_is_told_its_rows():
  layout = StageLayout(
    StageSpec(
      name='free', inputs=(), output=Take(stream=SLOW), window_seconds=3
    )
  )
  prompt = layout.pack_prompt({}, num_rows=2)
  bos, null, pad, separator = 7, 8, 9, 10
  assert layout.null_id == null
  np.testing.assert_array_equal(
    prompt, [[bos, separator, pad, pad, pad, pad]] * 2
  )
  with pytest.raises(ValueError, match='pass `num_rows`'):
    layout.pack_prompt({})


def test_dropped_input_is_null_in_the_rows_that_drop_it_and_nowhere_else():
  tokens = np.repeat(TOY.pack(TOY_CODES), 3, axis=0)
  dropped = np.array([True, False, True])
  result = TOY.drop_inputs(tokens, streams=('clip',), dropped=dropped)
  expected = np.array([TOY_ROW] * 3)
  expected[0, 2:4] = expected[2, 2:4] = TOY.null_id
  np.testing.assert_array_equal(result, expected)
  with pytest.raises(ValueError, match="no input 'fast' to drop"):
    TOY.drop_inputs(tokens, streams=('fast',), dropped=dropped)


def test_jax_arrays_give_the_rows_of_numpy_under_jit():
  codes = jax.tree.map(jnp.asarray, TOY_CODES)
  mask = jnp.array([[True, True, False, True]])
  pack = jax.jit(lambda codes, mask: TOY.pack(codes, frame_masks=mask))
  tokens = pack(codes, {'fast': mask})
  assert isinstance(tokens, jax.Array) and tokens.dtype == jnp.int32
  np.testing.assert_array_equal(
    tokens, TOY.pack(TOY_CODES, frame_masks={'fast': np.asarray(mask)})
  )
  np.testing.assert_array_equal(
    jax.jit(TOY.unpack)(tokens), TOY.unpack(np.asarray(tokens))
  )
  np.testing.assert_array_equal(
    jax.jit(TOY.loss_mask)(tokens), TOY.loss_mask(np.asarray(tokens))
  )
  prompt = jax.jit(lambda codes, given: TOY.pack_prompt(codes, given=given))(
    codes, mask[:, :, None]
  )
  np.testing.assert_array_equal(
    prompt,
    TOY.pack_prompt(TOY_CODES, given=np.asarray(mask)[:, :, None]),
  )
  dropped = jax.jit(
    lambda tokens: TOY.drop_inputs(
      tokens, streams=('slow',), dropped=jnp.array([True])
    )
  )(tokens)
  assert (np.asarray(dropped)[0, 5:7] == TOY.null_id).all()


def test_legal_ids_of_a_traced_position_are_those_of_the_tables():
  start, stop = jax.jit(jax.vmap(TOY.legal_ids))(jnp.arange(TOY.length))
  np.testing.assert_array_equal(start, TOY.legal_start)
  np.testing.assert_array_equal(stop, TOY.legal_stop)
  widths = np.asarray(stop - start)[TOY.output.positions]
  assert set(widths.tolist()) == {11}


def test_layout_is_a_static_argument_of_jit():
  layout = StageLayout(TOY.spec)
  assert layout == TOY and hash(layout) == hash(TOY)
  unpack = jax.jit(
    lambda tokens, layout: layout.unpack(tokens), static_argnums=1
  )
  np.testing.assert_array_equal(
    unpack(jnp.array([TOY_ROW]), layout), TOY_CODES['fast'][:, :, :2]
  )


def test_codes_that_are_missing_are_named():
  with pytest.raises(ValueError, match="needs codes of 'slow'.*'clip', 'fast'"):
    TOY.pack({name: TOY_CODES[name] for name in ('clip', 'fast')})


def test_codes_of_another_shape_are_an_error_that_says_which_is_wanted():
  codes = {**TOY_CODES, 'fast': TOY_CODES['fast'][:, :3]}
  with pytest.raises(ValueError, match=r'\[batch, 4, levels\].*\[1, 3, 3\]'):
    TOY.pack(codes)
  codes = {**TOY_CODES, 'fast': TOY_CODES['fast'][:, :, :1]}
  with pytest.raises(ValueError, match='with 2 to 3 levels; got'):
    TOY.pack(codes)


def test_codes_of_another_codebook_are_an_error():
  codes = {**TOY_CODES, 'slow': np.array([[[7], [0]]])}
  with pytest.raises(ValueError, match="'slow' span 0 to 7; stage 'toy' takes"):
    TOY.pack(codes)


def test_frame_mask_under_another_name_is_an_error():
  with pytest.raises(ValueError, match="A frame mask of 'quick'"):
    TOY.pack(TOY_CODES, frame_masks={'quick': np.ones((1, 4), bool)})


def test_layout_needs_no_jax():
  code = (
    'import sys, musiclm_jax.stages.layout;'
    'print(sorted({"jax", "flax", "tensorflow"} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
