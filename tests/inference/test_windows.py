# SPDX-License-Identifier: Apache-2.0
import math

import hypothesis
import hypothesis.strategies as st

from musiclm_jax.inference import windows
from musiclm_jax.inference.windows import Run, Tile


def runs(**options):
  return [(run.start, run.known, run.stop) for run in windows.slide(**options)]


def test_windows_slide_by_half_as_in_the_paper():
  # 25 ticks a second: 30 s windows that go on by 15 s, to 70 s.
  seconds = [
    tuple(ticks / 25 for ticks in run) for run in runs(window=750, total=1750)
  ]
  assert seconds == [(0, 0, 30), (15, 30, 45), (30, 45, 60), (45, 60, 70)]


def test_what_is_given_is_not_made():
  assert runs(window=10, total=14, known=4) == [(0, 4, 10), (5, 10, 14)]
  assert runs(window=10, total=14, known=12) == [(5, 12, 14)]
  assert runs(window=10, total=14, known=14) == []


def test_an_odd_window_keeps_the_smaller_half():
  assert windows.kept(7) == 3
  assert runs(window=7, total=12) == [(0, 0, 7), (4, 7, 11), (8, 11, 12)]


@hypothesis.given(
  window=st.integers(2, 31),
  total=st.integers(1, 199),
  known=st.integers(0, 97),
)
def test_runs_follow_each_other_and_see_what_is_kept(window, total, known):
  kept = windows.kept(window)
  before = known
  for run in windows.slide(window=window, total=total, known=known):
    assert run.known == before < run.stop <= run.start + window
    assert run.start == 0 or run.known - run.start >= kept
    before = run.stop
  assert before == max(total, known)


@hypothesis.given(
  total=st.integers(1, 97), more=st.integers(0, 31), window=st.integers(2, 19)
)
def test_what_comes_first_does_not_depend_on_what_comes_later(
  total, more, window
):
  short = runs(window=window, total=total)
  whole = runs(window=window, total=total + more)
  assert short[:-1] == whole[: len(short) - 1]
  assert short[-1][:2] == whole[len(short) - 1][:2]


def test_the_last_tile_is_the_last_window_and_makes_some_of_it_twice():
  assert list(windows.tile(window=3, total=10)) == [
    Tile(start=0, first=0, stop=3),
    Tile(start=3, first=3, stop=6),
    Tile(start=6, first=6, stop=9),
    Tile(start=7, first=9, stop=10),
  ]
  assert list(windows.tile(window=3, total=6, known=4)) == [
    Tile(start=3, first=4, stop=6)
  ]


def plan(total, *, known=0, stop=None):
  """Of the paper's stages."""
  return windows.plan(
    known=known,
    stop=total if stop is None else stop,
    total=total,
    semantic_window=750,
    coarse_window=250,
    fine_window=150,
    frames_per_tick=2,
  )


def test_ten_seconds_are_one_window_of_each_sliding_stage():
  made = plan(250)
  assert made.semantic == (Run(start=0, known=0, stop=250),)
  assert made.coarse == (Run(start=0, known=0, stop=250),)
  assert [tile.first for tile in made.fine] == [0, 150, 300, 450]
  assert made.fine[-1].start == 350


def test_a_piece_shorter_than_a_fine_window_is_made_as_long_as_one():
  made = plan(25)
  assert made.coarse == (Run(start=0, known=0, stop=75),)
  assert made.semantic == (Run(start=0, known=0, stop=250),)
  assert made.fine == (Tile(start=0, first=0, stop=150),)


def test_semantic_codes_reach_as_far_as_the_last_coarse_window():
  made = plan(12 * 25)
  assert made.coarse[-1] == Run(start=125, known=250, stop=300)
  assert made.semantic[-1].stop == 375


@hypothesis.given(
  total=st.integers(1, 1999), share=st.floats(0.001, 1), start=st.floats(0, 1)
)
def test_a_stretch_is_made_by_the_first_windows_of_the_piece(
  total, share, start
):
  stop = math.ceil(share * total)
  known = min(int(start * total), stop - 1)
  whole, stretch = plan(total, known=known), plan(total, known=known, stop=stop)
  assert whole.fine[: len(stretch.fine)] == stretch.fine
  assert stretch.fine[-1].stop >= 2 * stop
  for name in ('semantic', 'coarse'):
    *usual, last = getattr(stretch, name)
    runs = getattr(whole, name)
    assert runs[: len(usual)] == tuple(usual)
    assert (runs[len(usual)].start, runs[len(usual)].known) == (
      last.start,
      last.known,
    )
  # Every window reads what is made, and nothing else.
  assert 2 * stretch.coarse[-1].stop >= stretch.fine[-1].stop
  assert stretch.semantic[-1].stop == stretch.coarse[-1].start + 250


def test_an_hour_is_planned_at_once_and_its_windows_are_no_longer():
  made = plan(3600 * 25)
  assert len(made.semantic) == 1 + (3600 - 30) / 15
  assert len(made.coarse) == 1 + (3600 - 10) / 5
  assert len(made.fine) == 1200
  assert max(run.stop - run.start for run in made.semantic) == 750
