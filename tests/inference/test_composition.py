# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.composition import Composition, Order, Section
from musiclm_jax.inference.decoding import StageDecoder
from musiclm_jax.stages.layout import NO_CODE
from tests.inference.silent import SPECS, stages

CALM = {'mulan': np.asarray([[[1, 2, 3]]], np.int32)}
DROP = {'mulan': np.asarray([[[9, 7, 5]]], np.int32)}


def order(**changes):
  settings = {
    'ticks': 30,
    'seeds': np.zeros(1, np.uint32),
    'sections': (Section(start=0, conditions=CALM),),
  }
  return Order(**(settings | changes))


def compose(order, **options):
  """The pieces, the composition and the rows that each stage was given."""
  decoders = stages(SPECS)
  composition = Composition(Cascade(**decoders), order, **options)
  pieces = list(composition.pieces())
  calls = {name: decoder.params for name, decoder in decoders.items()}
  return pieces, composition, calls


def codes(stage, tokens, *, segment):
  layout = stages(SPECS)[stage].config.layout
  return layout.unpack(tokens, segment=layout.segments[segment])


def test_every_code_that_was_asked_for_is_made():
  (piece,), composition, calls = compose(order())
  np.testing.assert_array_equal(piece, np.ones((1, 60, 5)))
  # 4 s, and 2 s more that see semantic codes up to 6 s.
  assert [call[1] for call in calls['coarse']] == [40, 40]
  assert [call[1] for call in calls['semantic']] == [30]
  assert len(calls['fine']) == 1
  assert len(calls['fine'][0][0]) == 6  # 5 windows of 1.4 s
  assert np.all(composition.semantic[:, :30] == 1)


def test_the_condition_switches_at_the_change_in_every_stage_that_sees_it():
  pieces, _, calls = compose(
    order(
      sections=(
        Section(start=0, conditions=CALM),
        Section(start=9, conditions=DROP),
      )
    )
  )
  assert [piece.shape[1] for piece in pieces] == [18, 42]
  for name, per_tick in (('semantic', 1), ('coarse', 2)):
    (before, num_frames, _), (after, _, _), *later = calls[name]
    # Coarse codes up to the end of the fine window that the change is in, and
    # semantic codes up to the end of the coarse one.
    assert num_frames == {'semantic': 20, 'coarse': 28}[name]
    np.testing.assert_array_equal(codes(name, before, segment=0), CALM['mulan'])
    for tokens in (after, *(call[0] for call in later)):
      np.testing.assert_array_equal(
        codes(name, tokens, segment=0), DROP['mulan']
      )
    given = codes(name, after, segment=-1)[0, :, 0]
    assert np.all(given[: 9 * per_tick] == 1)
    assert np.all(given[9 * per_tick :] == NO_CODE)


def test_sections_before_what_is_given_are_passed_over():
  sections = tuple(
    Section(start=start, conditions=condition)
    for start, condition in ((0, CALM), (3, DROP), (9, CALM))
  )
  stretches = list(order(sections=sections).stretches(known=5))
  assert stretches == [(5, 9, sections[1]), (9, 30, sections[2])]


def test_only_a_usual_prompt_is_read_in_one_pass():
  """So that there are two programs a stage, whatever is given."""
  for known, prefilled in ((3, [0, 20]), (10, [20, 20]), (13, [20, 20])):
    _, _, calls = compose(
      order(
        semantic=np.zeros((1, known, 1), np.int32),
        acoustic=np.zeros((1, 2 * known, 5), np.int32),
      )
    )
    made = [call[2]['num_prefilled_frames'] for call in calls['coarse']]
    assert made == prefilled


def test_what_is_given_is_forced_in_every_stage_and_comes_out_unchanged():
  semantic = np.full((1, 9, 1), 4, np.int32)
  acoustic = np.full((1, 18, 5), 6, np.int32)
  pieces, composition, calls = compose(
    order(semantic=semantic, acoustic=acoustic)
  )
  whole = np.concatenate(pieces, axis=1)
  np.testing.assert_array_equal(whole[:, :18], acoustic)
  np.testing.assert_array_equal(whole[:, 18:], 1)
  np.testing.assert_array_equal(composition.semantic[:, :9], semantic)
  given = codes('coarse', calls['coarse'][0][0], segment=-1)[0, :18]
  np.testing.assert_array_equal(given, acoustic[0, :, :2])


def test_pieces_that_come_as_they_grow_are_the_same_whole():
  ((whole,), *_), (parts, *_) = (
    compose(order(ticks=51)),
    compose(order(ticks=51), as_it_grows=True),
  )
  assert len(parts) == 5
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_time_and_progress_are_kept_for_each_stage():
  told = []
  _, composition, _ = compose(
    order(), progress=lambda stage, share: told.append(stage)
  )
  assert set(composition.seconds) == {'semantic', 'coarse', 'fine'}
  assert all(seconds > 0 for seconds in composition.seconds.values())


def test_five_minutes_take_more_windows_and_no_larger_ones():
  ((piece,), _, calls) = compose(order(ticks=300 * 5))
  assert piece.shape == (1, 3000, 5)
  assert np.all(piece == 1)
  most = {name: max(len(c[0]) for c in made) for name, made in calls.items()}
  assert most == {'semantic': 1, 'coarse': 1, 'fine': 16}


def deduplicated(share):
  """The cascade's specs with repeats of semantic codes removed."""
  semantic, coarse, fine = SPECS
  clip, given = coarse.inputs
  runs = dataclasses.replace(given, distinct_share=share)
  return (
    dataclasses.replace(semantic, output=runs),
    dataclasses.replace(coarse, inputs=(clip, runs)),
    fine,
  )


class Counting(StageDecoder):
  """Makes code k % 13 at place k of a piece, so that no two are alike."""

  def decode(self, tokens, *, num_frames, num_prefilled_frames, **_):
    self.params.append((tokens, num_frames, num_prefilled_frames))
    layout = self.config.layout
    made = tokens.copy()
    row = made[:, layout.output.start : layout.output.start + num_frames]
    (first,) = layout.output.first_ids
    before = np.where(row[:, :1] == layout.pad_id, first, row[:, :1]) - first
    codes = (before + np.arange(num_frames)[None]) % 13 + first
    row[:] = np.where(row == layout.pad_id, codes, row)
    return made


def compose_runs(order, share, **options):
  decoders = stages(deduplicated(share))
  decoders['semantic'] = Counting(config=decoders['semantic'].config, params=[])
  composition = Composition(Cascade(**decoders), order, **options)
  piece = np.concatenate(list(composition.pieces()), axis=1)
  return piece, composition, decoders


def test_a_piece_without_repeats_has_the_length_that_was_asked_for():
  """Of 5 frames a second two begin a run: 6 s have 12 codes, 300 s have 600."""
  for ticks in (30, 1500):
    piece, composition, decoders = compose_runs(order(ticks=ticks), '2/5')
    assert piece.shape == (1, 2 * ticks, 5)
    assert np.all(piece == 1)
    made = composition.semantic_piece[0, :, 0]
    assert len(made) == 2 * ticks // 5
    np.testing.assert_array_equal(made, np.arange(len(made)) % 13)
    # A window of 30 frames has its 12 codes, of 15 frames its first 6.
    assert decoders['semantic'].params[0][1] == 12
    assert {call[2] for call in decoders['semantic'].params} <= {0, 6}


def test_a_coarse_window_reads_the_codes_that_sound_in_it():
  _, composition, decoders = compose_runs(order(ticks=100), '2/5')
  layout = decoders['coarse'].config.layout
  calls = decoders['coarse'].params
  assert len(calls) == 9
  for number, (tokens, *_) in enumerate(calls):
    read = layout.unpack(tokens, segment=layout.segments[1])[0, :, 0]
    # From code 10 k × 2 / 5 on, the windows being 20 frames and half of it new.
    first = 4 * number
    wanted = np.arange(first, first + 8) % 13
    np.testing.assert_array_equal(read[:8], wanted)
    assert np.all(read[8:] == NO_CODE)


def test_runs_of_one_frame_make_the_piece_of_the_plain_cascade():
  piece, composition, _ = compose_runs(order(ticks=51), 1)
  (plain,), whole, _ = compose(order(ticks=51))
  np.testing.assert_array_equal(piece, plain)
  assert composition.semantic_piece.shape == whole.semantic_piece.shape
  assert whole.semantic_piece.shape == (1, 51, 1)


def test_what_is_given_counts_by_its_own_runs():
  """Its 9 frames are 2 codes, and the rest comes at two in five frames."""
  given = np.asarray([4] * 7 + [6] * 2)[None, :, None]
  begun = order(
    semantic=given, acoustic=np.full((1, 18, 5), 6, np.int32), ticks=29
  )
  piece, composition, decoders = compose_runs(begun, '2/5')
  assert piece.shape == (1, 58, 5)
  np.testing.assert_array_equal(
    composition.semantic_piece[0, :, 0], [4, 6, *range(6, 14 - 1), 0]
  )
  tokens, num_codes, _ = decoders['semantic'].params[0]
  layout = decoders['semantic'].config.layout
  assert layout.unpack(tokens)[0, :3, 0].tolist() == [4, 6, NO_CODE]
  assert num_codes == 2 + 21 * 2 // 5
  with pytest.raises(ValueError, match='go on from different beginnings'):
    compose_runs(
      dataclasses.replace(
        begun,
        semantic=np.concatenate([given, given + 1]),
        acoustic=np.repeat(begun.acoustic, 2, axis=0),
        seeds=np.zeros(2, np.uint32),
      ),
      '2/5',
    )


def test_runs_that_come_as_they_grow_or_change_are_the_same_until_then():
  whole, composition, _ = compose_runs(order(ticks=60), '2/5')
  grown, *_ = compose_runs(order(ticks=60), '2/5', as_it_grows=True)
  np.testing.assert_array_equal(grown, whole)
  sections = tuple(
    Section(start=start, conditions=condition)
    for start, condition in ((0, CALM), (31, DROP))
  )
  changed, other, _ = compose_runs(order(ticks=60, sections=sections), '2/5')
  assert changed.shape == whole.shape
  np.testing.assert_array_equal(
    other.semantic_piece[:, :12], composition.semantic_piece[:, :12]
  )
