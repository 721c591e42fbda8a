# SPDX-License-Identifier: Apache-2.0
"""Prompt files come back as they were written, and wrong ones are named."""

import json

import pytest

from musiclm_jax.evaluation import prompts
from musiclm_jax.evaluation.prompts import Prompt

THREE = [
  Prompt(text='calm', facts={'families': ['brass'], 'tempo_bpm': 61}),
  Prompt(text='drôle', file='b.wav', reference='tune.1'),
  Prompt(text='loud', facts={'families': []}),
]


def test_prompts_come_back_as_they_were_written(tmp_path):
  prompts.write(tmp_path / 'set.jsonl', THREE)
  assert prompts.read(tmp_path / 'set.jsonl') == THREE
  assert [path.name for path in tmp_path.iterdir()] == ['set.jsonl']
  assert prompts.having(THREE, 'families') == [0]
  assert prompts.having(THREE, 'meter') == []


@pytest.mark.parametrize(
  ('line', 'match'),
  [
    ('{"text": "calm"}', "line 2: .* has no 'prompt'"),
    ('calm', 'line 2: Expecting value'),
    ('["calm"]', "line 2: .* has no 'prompt'"),
    ('{"prompt": " "}', "line 2: ' ' is not a prompt"),
    ('{"prompt": "a", "facts": ["b"]}', "line 2: .* no 'facts' that is a dict"),
  ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path, line, match):
  path = tmp_path / 'set.jsonl'
  path.write_text('{"prompt": "fine"}\n' + line)
  with pytest.raises(ValueError, match=match):
    prompts.read(path)


def test_an_empty_file_is_an_error(tmp_path):
  (tmp_path / 'set.jsonl').write_text('\n')
  with pytest.raises(ValueError, match='has no prompts'):
    prompts.read(tmp_path / 'set.jsonl')


def test_a_folder_says_itself_what_it_holds_or_a_file_does(tmp_path):
  with pytest.raises(ValueError, match='no generate.json; say by --prompts'):
    prompts.of_folder(tmp_path)
  (tmp_path / 'a.wav').touch()
  (tmp_path / 'b.wav').touch()
  piece = {'file': 'a.wav', 'prompt': 'calm', 'facts': {'meter': '3/4'}}
  by_audio = {'file': 'b.wav', 'prompt': None, 'label': 'continuation'}
  pieces = {'pieces': [piece, by_audio]}
  (tmp_path / 'generate.json').write_text(json.dumps(pieces))
  assert prompts.of_folder(tmp_path) == [
    Prompt(text='calm', facts={'meter': '3/4'}, file='a.wav')
  ]
  prompts.write(tmp_path / 'other.jsonl', THREE[1:2])
  found = prompts.of_folder(tmp_path, prompt_file=tmp_path / 'other.jsonl')
  assert found == THREE[1:2]
  prompts.write(tmp_path / 'twice.jsonl', 2 * THREE[1:2])
  with pytest.raises(ValueError, match="tells of 'b.wav' twice; leave one"):
    prompts.of_folder(tmp_path, prompt_file=tmp_path / 'twice.jsonl')
  (tmp_path / 'b.wav').unlink()
  with pytest.raises(ValueError, match="file 'b.wav', which .* not hold"):
    prompts.of_folder(tmp_path, prompt_file=tmp_path / 'other.jsonl')
