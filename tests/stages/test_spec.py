# SPDX-License-Identifier: Apache-2.0
import fractions
import subprocess
import sys

import pytest

from musiclm_jax.stages.coarse import coarse
from musiclm_jax.stages.fine import fine
from musiclm_jax.stages.semantic import semantic
from musiclm_jax.stages.spec import STAGES, StageSpec, Take
from musiclm_jax.streams import TokenStream

MULAN = TokenStream(
  name='mulan', rate_hz=None, num_codebooks=12, codebook_size=1024
)
SEMANTIC = TokenStream(
  name='semantic', rate_hz=25, num_codebooks=1, codebook_size=1024
)
ACOUSTIC = TokenStream(
  name='acoustic', rate_hz=50, num_codebooks=12, codebook_size=1024
)


def test_the_papers_stages_are_named_in_the_order_in_which_they_run():
  specs = (
    semantic(conditions=[], semantic=SEMANTIC),
    coarse(conditions=[], semantic=SEMANTIC, acoustic=ACOUSTIC),
    fine(acoustic=ACOUSTIC),
  )
  assert tuple(spec.name for spec in specs) == STAGES


def test_take_without_count_is_all_levels_from_first_on():
  take = Take(stream=ACOUSTIC, first=5)
  assert list(take.levels) == [5, 6, 7, 8, 9, 10, 11]
  assert take == Take(stream=ACOUSTIC, first=5, count=7)


@pytest.mark.parametrize(
  ('first', 'count'), [(0, 13), (11, 2), (12, None), (-1, 3), (3, 0)]
)
def test_take_beyond_the_stream_is_an_error_that_names_its_levels(first, count):
  with pytest.raises(ValueError, match="'acoustic', which has levels 0 to 11"):
    Take(stream=ACOUSTIC, first=first, count=count)


def test_num_codes_is_frames_times_levels_of_every_segment():
  spec = StageSpec(
    name='toy',
    inputs=(Take(stream=MULAN), Take(stream=SEMANTIC)),
    output=Take(stream=ACOUSTIC, first=2, count=3),
    window_seconds=0.2,
  )
  assert spec.num_codes == 1 * 12 + 5 * 1 + 10 * 3


def test_window_is_kept_exact():
  spec = StageSpec(
    name='toy', inputs=(), output=Take(stream=SEMANTIC), window_seconds=0.04
  )
  assert spec.window_seconds == fractions.Fraction(1, 25)
  assert spec.num_codes == 1


def test_window_that_cuts_a_frame_is_an_error_that_names_the_next_windows():
  with pytest.raises(ValueError) as caught:
    StageSpec(
      name='toy',
      inputs=(Take(stream=SEMANTIC),),
      output=Take(stream=ACOUSTIC),
      window_seconds=0.5,
    )
  # 1/25 s holds one semantic and two acoustic frames; 12.5 of them are 0.5 s.
  message = str(caught.value)
  assert 'multiple of 1/25 s, such as 12/25 s or 13/25 s' in message
  assert "'semantic' at 25 Hz" in message


def test_windows_offered_for_odd_rates_are_legal():
  other = TokenStream(
    name='other', rate_hz='75/2', num_codebooks=1, codebook_size=8
  )
  takes = {'inputs': (Take(stream=other),), 'output': Take(stream=SEMANTIC)}
  with pytest.raises(ValueError, match='multiple of 2/25 s, such as 2/25 s'):
    StageSpec(name='toy', window_seconds=0.1, **takes)
  assert StageSpec(name='toy', window_seconds='2/25', **takes).num_codes == 5


def test_window_shorter_than_a_frame_is_offered_only_what_exists():
  with pytest.raises(ValueError, match='such as 1/25 s\\.'):
    StageSpec(
      name='toy', inputs=(), output=Take(stream=SEMANTIC), window_seconds=0.01
    )


@pytest.mark.parametrize('seconds', [0, -1])
def test_window_of_no_length_is_an_error(seconds):
  with pytest.raises(ValueError, match='above 0'):
    StageSpec(
      name='toy', inputs=(), output=Take(stream=MULAN), window_seconds=seconds
    )


def test_stage_over_streams_without_rate_takes_any_window():
  # A prior from text codes to MuLan audio codes, say.
  spec = StageSpec(
    name='prior', inputs=(), output=Take(stream=MULAN), window_seconds=0.123
  )
  assert spec.num_codes == 12


def test_two_streams_of_one_name_are_an_error():
  other = TokenStream(
    name='acoustic', rate_hz=50, num_codebooks=8, codebook_size=1024
  )
  with pytest.raises(ValueError, match="two streams called 'acoustic'"):
    StageSpec(
      name='toy',
      inputs=(Take(stream=other),),
      output=Take(stream=ACOUSTIC),
      window_seconds=1,
    )


def test_level_taken_as_input_twice_is_an_error():
  with pytest.raises(ValueError, match="level 2 of 'acoustic' as an input"):
    StageSpec(
      name='toy',
      inputs=(
        Take(stream=ACOUSTIC, count=3),
        Take(stream=ACOUSTIC, first=2, count=2),
      ),
      output=Take(stream=SEMANTIC),
      window_seconds=1,
    )


def test_spec_needs_the_standard_library_only():
  code = (
    'import sys, musiclm_jax.stages.spec;'
    'print(sorted({"jax", "numpy", "flax"} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
