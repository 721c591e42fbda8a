# SPDX-License-Identifier: Apache-2.0
import numpy as np

from musiclm_jax.inference.cascade import Cascade
from musiclm_jax.inference.composition import Composition, Order, Section
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
