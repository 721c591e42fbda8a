# SPDX-License-Identifier: Apache-2.0
"""Clips that are heard as they were asked to be, and tables that say so."""

import json

import numpy as np
import pytest

from musiclm_jax.evaluation.adherence import beats, evaluate, notes, report
from musiclm_jax.evaluation.prompts import Prompt

FAMILIES = ('keyboard', 'plucked strings', 'bowed strings', 'woodwind')
NUM = 8


def prompt(number, **changes):
  family = FAMILIES[number % 4]
  facts = {
    'families': [family, 'brass'] if number == 0 else [family],
    'absent_families': [FAMILIES[(number + 1) % 4]],
    'families_in_order': [family, FAMILIES[(number + 1) % 4]],
    'tempo_bpm': 60 + 20 * number,
    'meter': '6/8',
    'notes': {
      'onset_seconds': [0.0, 1.0],
      'duration_seconds': [0.5, 0.5],
      'pitch': [60 + number, 67 + number],
    },
  }
  facts = facts | changes
  return Prompt(
    text=f'piece {number}', facts={k: v for k, v in facts.items() if v}
  )


def heard(number, *, is_silent=False):
  """What prompt `number` asks for."""
  scores = np.full(4, 0.1)
  scores[number % 4] = 0.9
  known = prompt(number).facts
  return evaluate.Heard(
    halves=(scores, scores / 2),
    beats=beats.Beats(
      tempo_bpm=float(known['tempo_bpm']), likeness=np.zeros(3)
    ),
    notes=notes.Notes.of_facts(known['notes']),
    is_silent=is_silent,
  )


@pytest.fixture(scope='module')
def found():
  clips = [heard(n, is_silent=n == 2) for n in range(NUM)]
  return evaluate.evaluate([prompt(n) for n in range(NUM)], clips)


def test_what_was_asked_for_is_found_and_other_prompts_do_worse(found):
  own = {figure.name: figure.own.mean for figure in found.figures}
  assert own == {
    'instrument families': 1,
    'absent families': 1,
    'families in order': 1,
    'tempo': 1,
    'tempo or its octave': 1,
    'beats in two or three': 0,  # Nothing was to be heard of the meter.
    'bars of three beats or not': 0,
    'notes, onset F1': 1,
    'pitch classes, cosine': pytest.approx(1),
  }
  gains = {figure.name: figure.gain.mean for figure in found.figures}
  for name in ('instrument families', 'tempo', 'notes, onset F1'):
    assert gains[name] > 0.5
  assert gains['tempo or its octave'] < gains['tempo']
  assert (found.num_clips, found.num_silent) == (NUM, 1)
  assert found.inaudible == {'brass': 1}


def test_families_are_told_one_by_one(found):
  assert set(found.families) == set(FAMILIES)
  for own, others in found.families.values():
    assert (own.mean, own.num_clips) == (1, 2)
    assert (others.mean, others.num_clips) == (0, 6)


def test_samples_of_one_prompt_are_drawn_together(found, tmp_path):
  # Three samples each, the first four of which were made for other prompts.
  rows = [n for n in range(NUM) for _ in range(3)]
  clips = [heard(n + (n < 4)) for n in rows]
  often = evaluate.evaluate([prompt(n) for n in rows], clips)
  once = evaluate.evaluate(
    [prompt(n) for n in range(NUM)], [heard(n + (n < 4)) for n in range(NUM)]
  )
  assert often.families == once.families
  assert once.families['woodwind'][1].high > 0
  text = report.to_markdown(often, about='A toy.')
  assert f'| tempo | {3 * NUM} | 0.500 ' in text  # Clips, not prompts.


def test_a_fact_counts_where_it_is_stated():
  prompts = [prompt(0, meter='', notes={}), prompt(1, tempo_bpm=0), prompt(2)]
  prompts.append(prompt(3, families=['brass'], notes={}))
  found = evaluate.evaluate(prompts, map(heard, range(4)))
  counts = {figure.name: figure.own.num_clips for figure in found.figures}
  assert counts['instrument families'] == 3
  assert counts['tempo'] == 3
  assert counts['beats in two or three'] == 2
  assert counts['notes, onset F1'] == 2


def test_tools_are_loaded_if_two_prompts_ask_for_them():
  loaded = []

  def load(name):
    return lambda: loaded.append(name)

  def ears(*prompts):
    return evaluate.Ears(
      prompts, load_classifier=load('tags'), load_transcriber=load('notes')
    )

  tempo = Prompt(text='a', facts={'tempo_bpm': 90})
  found = ears(tempo, tempo, prompt(0)).listen(
    np.zeros(22_050, np.float32), sample_rate_hz=22_050
  )
  assert not loaded and found.halves is None and found.notes is None
  assert found.beats.tempo_bpm == 0 and found.is_silent
  ears(prompt(0), prompt(1))
  assert loaded == ['tags', 'notes']
  with pytest.raises(ValueError, match='No fact .* give "facts" with families'):
    ears(tempo, Prompt(text='b', facts={'mood': 'sad'}))


@pytest.mark.parametrize(
  ('fact', 'value'),
  [
    ('families', 'brass'),
    ('families_in_order', ['brass', 'keyboard', 'woodwind']),
    ('tempo_bpm', 'fast'),
    ('tempo_bpm', -60),
    ('meter', 'waltz'),
    ('notes', [60, 62]),
  ],
)
def test_a_fact_that_cannot_be_read_is_named(fact, value):
  with pytest.raises(ValueError, match=f"'piece 1' has the {fact} .*write it"):
    evaluate.Ears([prompt(0), prompt(1, **{fact: value})], load_classifier=list)


def test_tables_and_json_hold_every_figure(found, tmp_path):
  report.write(found, directory=tmp_path, about='A toy.')
  fields = json.loads((tmp_path / 'adherence.json').read_text())
  assert fields['figures'][0]['values'] == [1.0] * NUM
  text = (tmp_path / 'adherence.md').read_text()
  assert text.startswith('A toy.\n\n8 clips, 1 of them silent, each')
  assert '| tempo | 8 | 1.000 [1.000, 1.000] |' in text
  assert '| woodwind | 2 | 1.000 [1.000, 1.000] | 0.000' in text
  assert 'No tag tells these families, stated so often: brass (1).' in text
