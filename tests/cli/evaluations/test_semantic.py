# SPDX-License-Identifier: Apache-2.0
"""Crops of a corpus with their classes; and the verb from end to end."""

import argparse
import dataclasses
import json

import numpy as np
import pytest

from musiclm_jax.cli import evaluate
from musiclm_jax.cli.evaluations import semantic
from musiclm_jax.data import corpus, sources, writer
from tests.semantic import toy_tokenizer

RATE_HZ = 24_000
# An odd number of frames; the toy's window holds it.
SECONDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Melodies:
  """Eight tunes to fit to and four to ask about, of 7 s; one of 1 s."""

  name: str = 'melodies'

  def clips(self):
    return [
      sources.ClipRef(
        id=str(n), split='train' if n < 8 else 'test', group=f'tune {n}'
      )
      for n in range(12)
    ] + [sources.ClipRef(id='99', split='validation', group='short')]

  def load(self, ref):
    number = int(ref.id)
    waveform = toy_tokenizer.music(
      1 if number == 99 else 7, seed=number, rate_hz=RATE_HZ
    )
    return sources.Clip(
      waveform=waveform,
      sample_rate_hz=RATE_HZ,
      facts={
        'families': [('brass', 'woodwind')[number % 2]],
        'meter': ('6/8', '3/4')[number % 2],
        'mode': ('major', 'minor')[number % 2],
      },
    )


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  writer.write_corpus(
    Melodies(),
    directory,
    sample_rate_hz=RATE_HZ,
    num_workers=0,
    show_progress=False,
  )
  return directory


def crops_of(prepared, clip, **changes):
  options = argparse.Namespace(**({'crops': 2, 'seconds': SECONDS} | changes))
  return list(
    semantic.crops_of(
      corpus.AudioCorpus(prepared), clip, is_held_out=True, options=options
    )
  )


def test_crops_are_spread_evenly_over_a_piece(prepared):
  whole = corpus.AudioCorpus(prepared).waveform(0)
  first, second = crops_of(prepared, 0)
  assert (first.tune, first.is_held_out) == ('tune 0', True)
  assert first.classes['mode'] == 'major'
  # Of 4 s to spare: after a quarter and after three.
  for crop, start in ((first, RATE_HZ), (second, 3 * RATE_HZ)):
    np.testing.assert_array_equal(
      crop.waveform, whole[start : start + SECONDS * RATE_HZ]
    )


def test_a_piece_that_is_too_short_has_no_crops(prepared):
  (short,) = corpus.AudioCorpus(prepared).clips('validation')
  assert crops_of(prepared, short) == []
  assert len(crops_of(prepared, short, seconds=1, crops=1)) == 1


@pytest.mark.parametrize(
  'facts, classes',
  [
    (
      {'families': ['brass'], 'meter': '2/2', 'mode': 'minor'},
      {'instrument family': 'brass', 'meter': 'duple', 'mode': 'minor'},
    ),
    (
      {'families': ['brass', 'mallets'], 'meter': '3/4', 'mode': 'dorian'},
      {'instrument family': None, 'meter': 'triple', 'mode': None},
    ),
    (
      {'families': [], 'meter': '9/8', 'mode': None},
      {'instrument family': None, 'meter': 'compound', 'mode': None},
    ),
    ({}, {'instrument family': None, 'meter': None, 'mode': None}),
  ],
)
def test_a_class_is_what_the_facts_say_and_none_where_they_do_not(
  facts, classes
):
  assert semantic.classes_of(facts) == classes


@pytest.mark.slow
def test_the_verb_writes_tables_and_figures(
  prepared, tmp_path, capsys, monkeypatch
):
  pairs = [
    tuple(toy_tokenizer.music(2, seed=n, rate_hz=RATE_HZ) for _ in range(2))
    for n in range(3)
  ]
  # To render takes reading thousands of tunes.
  monkeypatch.setattr(semantic, 'rendered_covers', lambda num: [pairs] * num)
  toy_tokenizer.publish(tmp_path / 'model')
  evaluate.main(
    [
      'semantic',
      f'--model={tmp_path / "model"}',
      f'--corpus={prepared}',
      f'--output={tmp_path / "out"}',
      f'--seconds={SECONDS}',
      '--num_covers=2',
    ]
  )
  text = (tmp_path / 'out' / 'semantic.md').read_text()
  assert text in capsys.readouterr().out
  for row in ('| instrument family (blind: 0.500) | log-mel |', '| tokens |'):
    assert row in text
  fields = json.loads((tmp_path / 'out' / 'semantic.json').read_text())
  assert fields['num_tunes'] == 4
  assert fields['num_frames'] == 4 * 2 * SECONDS * 25
  assert fields['covers'][0]['score']['num_clips'] == 6
