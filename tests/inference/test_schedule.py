# SPDX-License-Identifier: Apache-2.0
import fractions

import pytest

from musiclm_jax.inference import schedule
from musiclm_jax.inference.schedule import Schedule

CALM = Schedule(starts_seconds=(0,), texts=('calm',))
STORY = Schedule(starts_seconds=(0, '7.5'), texts=('calm', 'drop'))


def test_texts_and_texts_over_time_are_told_apart():
  story = [(0, 'calm'), (7.5, 'drop')]
  assert schedule.parse('calm') == (CALM,)
  assert schedule.parse(['calm', 'calm']) == (CALM, CALM)
  assert schedule.parse(story) == (STORY,)
  assert schedule.parse([story]) == (STORY,)
  assert schedule.parse([story, 'calm', CALM]) == (STORY, CALM, CALM)
  assert schedule.parse(STORY) == (STORY,)


def test_times_are_exact_and_the_label_names_them():
  assert STORY.starts_seconds[1] == fractions.Fraction(15, 2)
  assert STORY.label == 'calm | 7.5 s: drop'


@pytest.mark.parametrize(
  'prompts, match',
  [
    ([], 'holds no prompt'),
    (None, 'holds no prompt'),
    ('', "'' is not a prompt"),
    (['calm', '  '], "'  ' is not a prompt"),
    ([3], '3 is not a prompt'),
    ([(0, 'calm'), (3, '')], "'' is not a prompt"),
    ([(1, 'calm')], 'the first starts at 0'),
    ([(0, 'calm'), (5, 'a'), (5, 'b')], 'in order of time'),
    ([(0, 'calm'), (float('nan'), 'b')], 'not a number of seconds'),
  ],
)
def test_what_is_no_prompt_is_an_error(prompts, match):
  with pytest.raises(ValueError, match=match):
    schedule.parse(prompts)


def test_a_file_has_a_line_for_each_text(tmp_path):
  path = tmp_path / 'story.txt'
  path.write_text('# A story.\n0 calm\n\n 7.5  drop\n')
  assert schedule.read(path) == STORY


@pytest.mark.parametrize(
  'text, match',
  [
    ('0 calm\nloud drop\n', "line 2: 'loud' is not a number"),
    ('0 calm\n3/0 drop\n', 'line 2'),
    ('5 calm\n', 'starts at 0'),
    ('', 'starts at 0'),
    ('0\n', 'not a prompt'),
  ],
)
def test_a_wrong_file_is_named(tmp_path, text, match):
  path = tmp_path / 'story.txt'
  path.write_text(text)
  with pytest.raises(ValueError, match=match) as caught:
    schedule.read(path)
  assert str(path) in str(caught.value)
