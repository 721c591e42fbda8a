# SPDX-License-Identifier: Apache-2.0
"""Runs are one code each, come back by lengths, and are counted in time."""

import dataclasses
import fractions

import gin
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.cli import flags, setup
from musiclm_jax.data import silence
from musiclm_jax.stages import deduplication
from musiclm_jax.stages.deduplication import CodeTimes
from musiclm_jax.stages.layout import NO_CODE, StageLayout
from musiclm_jax.stages.objective import StageObjective
from musiclm_jax.stages.spec import StageSpec, Take
from musiclm_jax.training import loop
from tests.stages import toys

RUNS = Take(stream=toys.SLOW, distinct_share='2/3')
PLAIN = Take(stream=toys.SLOW)
MADE = StageSpec(name='made', inputs=(), output=RUNS, window_seconds=2)
READ = dataclasses.replace(toys.SPEC, inputs=(Take(stream=toys.CLIP), RUNS))
ROWS = np.asarray(
  [[4, 4, 4, 0, 0, 4], [1, 2, 1, 2, 1, 2], [3, 3, 3, 3, 3, 3]], np.int32
)
AS_RUNS = [[4, 0, 4], [1, 2, 1, 2, 1, 2], [3]]


def tokens(spec, rows, **options):
  return StageLayout(spec).pack({'slow': rows[..., None]}, **options)


def test_a_row_has_the_code_of_each_run_and_then_padding():
  layout = StageLayout(MADE)
  packed = tokens(MADE, ROWS)
  for row, mask, wanted in zip(
    layout.unpack(packed)[..., 0], layout.loss_mask(packed), AS_RUNS
  ):
    assert row.tolist() == wanted + [NO_CODE] * (6 - len(wanted))
    assert np.count_nonzero(mask) == len(wanted)
  # Only the frames that a clip has are looked at.
  short = np.arange(6)[None] < np.asarray([[2], [3], [6]])
  packed = tokens(MADE, ROWS, frame_masks={'slow': short})
  assert np.count_nonzero(layout.loss_mask(packed), axis=1).tolist() == [
    1,
    3,
    1,
  ]


def test_an_input_loses_its_repeats_and_nothing_else_moves():
  layout, plain = StageLayout(READ), StageLayout(toys.SPEC)
  codes = toys.codes(3) | {'slow': ROWS[..., None]}
  row, whole = layout.pack(codes), plain.pack(codes)
  segment = layout.segments[1]
  assert layout.unpack(row, segment=segment)[0, :, 0].tolist() == [
    4, 0, 4, *[NO_CODE] * 3
  ]  # fmt: skip
  outside = np.ones(layout.length, bool)
  outside[segment.positions] = False
  np.testing.assert_array_equal(row[:, outside], whole[:, outside])


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
  codes=st.lists(st.integers(0, 3), min_size=1, max_size=11).map(np.asarray)
)
def test_lengths_undo_it_and_twice_is_once(codes):
  kept, lengths = deduplication.runs(codes)
  np.testing.assert_array_equal(np.repeat(kept, lengths), codes)
  assert np.all(kept[1:] != kept[:-1])
  mask = np.ones((1, len(codes), 1), bool)
  found, is_run = deduplication.remove_repeats(codes[None, :, None], mask)
  np.testing.assert_array_equal(found[is_run], kept)
  again = deduplication.remove_repeats(found, is_run)
  np.testing.assert_array_equal(again[0][again[1]], kept)
  np.testing.assert_array_equal(again[1], is_run)


def test_rows_without_repeats_are_those_of_the_plain_stage():
  plain = dataclasses.replace(MADE, output=PLAIN)
  np.testing.assert_array_equal(
    tokens(MADE, ROWS[1:2]), tokens(plain, ROWS[1:2])
  )
  assert not np.array_equal(tokens(MADE, ROWS), tokens(plain, ROWS))


def test_traced_rows_are_those_of_numpy():
  traced = jax.jit(lambda rows: tokens(MADE, rows))(jnp.asarray(ROWS))
  np.testing.assert_array_equal(traced, tokens(MADE, ROWS))


def test_loss_and_figures_are_over_runs_alone():
  """Lengths do not matter, and each run weighs as much as any other."""
  model = dataclasses.replace(toys.config(dropout_rate=0.0), spec=MADE)
  objective = StageObjective(model=model)
  key = batches.codes_key('slow')
  longer = np.asarray([[4, 0, 0, 0, 4, 4], ROWS[1], ROWS[2]], np.int32)
  variables = objective.init(jax.random.key(0), {key: ROWS[..., None]})
  loss = jax.jit(objective.loss)
  found = loss(variables, {key: ROWS[..., None]}, jax.random.key(1))
  same = loss(variables, {key: longer[..., None]}, jax.random.key(1))
  assert found.loss.weight == sum(map(len, AS_RUNS))
  np.testing.assert_array_equal(found.loss.total, same.loss.total)


def test_the_share_counts_frames_that_begin_a_run():
  share = deduplication.distinct_share(list(ROWS[:2]))
  assert share == fractions.Fraction(2 + 5, 10)
  assert deduplication.distinct_share([ROWS[2]]) == fractions.Fraction(1, 5)


def test_times_are_known_for_what_is_given_and_then_counted():
  times = CodeTimes.of(RUNS, num_frames=13, given=ROWS[0])
  assert times.code_at.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 6, 6]
  assert times.span(1, 4) == slice(0, 2)
  assert times.span(4, 4) == slice(0, 0)
  np.testing.assert_array_equal(
    CodeTimes.of(PLAIN, num_frames=7).code_at, np.arange(7)
  )
  every = dataclasses.replace(RUNS, distinct_share=1)
  np.testing.assert_array_equal(
    CodeTimes.of(every, num_frames=7).code_at, np.arange(7)
  )


@hypothesis.given(
  share=st.fractions('1/97', 1, max_denominator=97),
  start=st.integers(0, 31),
  window=st.integers(1, 29),
)
def test_a_window_never_has_more_runs_than_frames(share, start, window):
  """Nor fewer than its own first half, told at the beginning of a piece."""
  take = dataclasses.replace(RUNS, distinct_share=share)
  times = CodeTimes.of(take, num_frames=61)
  span = times.span(start, start + window)
  assert 1 <= span.stop - span.start <= window
  assert span.stop - span.start >= times.span(0, window).stop


@pytest.mark.parametrize(
  'stream, share, message',
  [
    (toys.SLOW, 0, 'is 0; it is a share of frames'),
    (toys.SLOW, '3/2', 'at most 1'),
    (toys.CLIP, '1/2', 'only a stream with a rate and one codebook'),
    (toys.FAST, '1/2', '6 Hz and 4'),
  ],
)
def test_what_has_no_runs_is_refused(stream, share, message):
  with pytest.raises(ValueError, match=message):
    Take(stream=stream, distinct_share=share)


@pytest.fixture(scope='module')
def tokens_dir(tmp_path_factory):
  return silence.write_all(tmp_path_factory.mktemp('silence'))['TOKENS']


@pytest.mark.parametrize('stage', ['semantic', 'coarse'])
def test_audiolm_keeps_repeats_but_for_one_more_file(stage, tokens_dir):
  def found(*more):
    parser = flags.Parser(prog='musiclm train')
    parser.add_gin_flags()
    options = parser.parse_args(
      [
        f'--gin_file=experiments/audiolm_{stage}_stage_tiny.gin',
        *more,
        "--gin.MODEL_DIR='run'",
        f'--gin.TOKENS={tokens_dir!r}',
      ]
    )
    setup.configure(options, root=loop.train, supplied=['gin_config'])
    spec = gin.get_bindings(loop.train)['training'].objective.model.spec
    return {take.stream.name: take.distinct_share for take in spec.takes}

  kept = found()
  assert set(kept.values()) == {None}  # As what is exported must be.
  removed = found('--gin_file=stages/audiolm/deduplicated.gin')
  # Silence repeats one code through 25 frames, of which the first counts not.
  assert removed == kept | {'semantic': fractions.Fraction(1, 24)}
