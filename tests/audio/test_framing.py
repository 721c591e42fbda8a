# SPDX-License-Identifier: Apache-2.0
import hypothesis
import hypothesis.strategies as st
import pytest

from musiclm_jax.audio import framing
from musiclm_jax.audio.framing import Padding, Window

SIZES = st.tuples(
  st.integers(1, 50), st.integers(1, 20), st.integers(0, 200)
).map(
  lambda s: {'hop_samples': s[1], 'frame_samples': s[1] + s[0] - 1, 'n': s[2]}
)


def test_frames_are_counted_as_by_hand():
  sizes = {'frame_samples': 5, 'hop_samples': 2}
  # Ten samples: frames from 0, 2 and 4 fit; five hops have begun.
  assert framing.num_frames(10, padding=Padding.VALID, **sizes) == 3
  assert framing.num_frames(10, padding=Padding.SAME, **sizes) == 5
  assert framing.num_frames(11, padding=Padding.CAUSAL, **sizes) == 6
  assert framing.num_frames(4, padding=Padding.VALID, **sizes) == 0
  assert framing.num_frames(0, padding=Padding.SAME, **sizes) == 0


def test_padding_is_as_by_hand():
  sizes = {'frame_samples': 6, 'hop_samples': 2}
  assert framing.pad_samples(10, padding=Padding.VALID, **sizes) == (0, 0)
  assert framing.pad_samples(10, padding=Padding.SAME, **sizes) == (2, 2)
  assert framing.pad_samples(10, padding=Padding.CAUSAL, **sizes) == (4, 0)
  assert framing.pad_samples(9, padding=Padding.CAUSAL, **sizes) == (4, 1)


def test_ten_seconds_at_a_hop_of_ten_milliseconds_are_a_thousand_frames():
  frames = framing.num_frames(
    160_000, frame_samples=400, hop_samples=160, padding=Padding.SAME
  )
  assert frames == 1000


@hypothesis.given(SIZES, st.sampled_from([Padding.SAME, Padding.CAUSAL]))
def test_padding_makes_exactly_the_frames_that_are_counted(sizes, padding):
  num_samples = sizes.pop('n')
  before, after = framing.pad_samples(num_samples, padding=padding, **sizes)
  frames = framing.num_frames(num_samples, padding=padding, **sizes)
  spare = sizes['frame_samples'] - sizes['hop_samples']
  assert before >= 0 and after >= 0
  assert before + num_samples + after == frames * sizes['hop_samples'] + spare


def test_hop_longer_than_its_frame_is_an_error():
  with pytest.raises(ValueError, match='Frames of 4 every 5'):
    framing.num_frames(9, frame_samples=4, hop_samples=5, padding=Padding.VALID)


def test_mulan_reads_thirty_seconds_as_twenty_one_windows():
  windows = framing.sliding_windows(30, window_frames=10, hop_frames=1)
  assert len(windows) == 21
  assert windows[20] == Window(start=20, stop=30, keep_start=20, keep_stop=30)
  assert len(framing.sliding_windows(10, window_frames=10, hop_frames=1)) == 1
  assert framing.sliding_windows(9, window_frames=10, hop_frames=1) == []


def test_covering_windows_drop_their_inner_margins():
  # 30 s windows, 5 s dropped at each inner edge, over 70 s.
  windows = framing.covering_windows(70, window_frames=30, margin_frames=5)
  assert windows == [
    Window(start=0, stop=30, keep_start=0, keep_stop=25),
    Window(start=20, stop=50, keep_start=25, keep_stop=45),
    Window(start=40, stop=70, keep_start=45, keep_stop=70),
  ]
  assert windows[1].kept == slice(5, 25)


def test_last_covering_window_is_whole_and_keeps_what_is_new():
  windows = framing.covering_windows(8, window_frames=3)
  assert windows[-1] == Window(start=5, stop=8, keep_start=6, keep_stop=8)
  assert windows[-1].kept == slice(1, 3)


def test_whole_shorter_than_a_window_is_one_short_window():
  assert framing.covering_windows(2, window_frames=3) == [
    Window(start=0, stop=2, keep_start=0, keep_stop=2)
  ]
  assert framing.covering_windows(0, window_frames=3) == []


@hypothesis.given(st.integers(0, 300), st.integers(1, 40), st.integers(0, 19))
def test_covering_windows_keep_every_frame_once_and_away_from_inner_edges(
  total, window, margin
):
  hypothesis.assume(2 * margin < window)
  windows = framing.covering_windows(
    total, window_frames=window, margin_frames=margin
  )
  kept = [i for w in windows for i in range(w.start, w.stop)[w.kept]]
  assert kept == list(range(total))
  for w in windows:
    assert w.stop - w.start == min(window, total)
    assert w.start == 0 or w.keep_start - w.start >= margin
    assert w.stop == total or w.stop - w.keep_stop >= margin


def test_margin_that_keeps_nothing_is_an_error():
  with pytest.raises(ValueError, match='keeps nothing'):
    framing.covering_windows(10, window_frames=6, margin_frames=3)
