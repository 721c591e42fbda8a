# SPDX-License-Identifier: Apache-2.0
"""The page says what was found, in four tables at most."""

import json

from musiclm_jax.evaluation import code_agreement, mulan, mulan_report
from musiclm_jax.evaluation.bootstrap import Estimate
from musiclm_jax.evaluation.codebook_usage import CodebookFigures


def estimate(mean):
  return Estimate(mean=mean, low=mean / 2, high=mean * 2, num_clips=7)


def kind(name, *systems):
  return mulan.KindFigures(
    name=name,
    answers=1.5,
    chance=mulan.Chance(
      served={1: 0.01, 10: 0.05}, median_rank=67.0, mean_average_precision=0.03
    ),
    retrieval=tuple(
      mulan.RetrievalFigures(
        system=system,
        direction=direction,
        served={1: estimate(0.1), 10: estimate(0.4)},
        median_rank=estimate(12.0),
        mean_average_precision=estimate(0.2),
      )
      for system in systems
      for direction in (mulan.TEXT_TO_AUDIO, mulan.AUDIO_TO_TEXT)
    ),
  )


def make_report(*, names=('all', 'sound'), with_codes=True):
  return mulan.MulanReport(
    num_clips=200,
    num_tunes=101,
    kinds=tuple(kind(name, 'trained', 'untrained') for name in names),
    tags=(
      mulan.TagFigures(
        fact='instruments',
        system='trained',
        mean_area=estimate(0.7),
        areas={'harp': 0.9, 'oboe': 0.5},
      ),
    ),
    levels=(
      code_agreement.LevelFigures(
        music=CodebookFigures(
          used_share=0.25, entropy_bits=3.0, perplexity=8.0
        ),
        captions=CodebookFigures(
          used_share=0.125, entropy_bits=2.0, perplexity=4.0
        ),
        agreement=0.5,
        blind_agreement=0.125,
      ),
    )
    if with_codes
    else (),
    num_windows=4200 if with_codes else 0,
  )


def test_every_figure_stands_beside_chance():
  text = mulan_report.to_markdown(make_report(), about='A toy.')
  assert text.startswith('A toy.\n\n200 clips of 101 tunes.')
  lines = text.splitlines()
  assert '| either way | chance | 0.010 | 0.050 | 1.0 | 67 | 0.030 |' in lines
  served = '0.100 [0.050, 0.200] | 0.400 [0.200, 0.800] | 8.0 [4.0, 16.0]'
  row = f'| text to audio | trained | {served} | 12 [6, 24] |'
  assert any(line.startswith(row) for line in lines)
  assert '| sound | 1.50 | 0.050 | 0.400 [0.200, 0.800] |' in text
  assert '| instruments | 2 | trained | 0.700 [0.350, 1.400] |' in lines
  assert 'over 4200 windows' in text
  assert '| 1 | 25.0% | 8.0 | 12.5% | 4.0 | 0.500 | 0.125 |' in lines


def test_towers_alone_have_no_table_of_codes_and_one_kind_no_table_of_kinds():
  report = make_report(names=('first',), with_codes=False)
  text = mulan_report.to_markdown(report, about='')
  assert 'Codebooks' not in text and 'By kind' not in text
  assert 'captions: first' in text


def test_both_files_are_written_and_json_holds_every_tag(tmp_path):
  mulan_report.write(make_report(), directory=tmp_path / 'out', about='A toy.')
  fields = json.loads((tmp_path / 'out' / 'mulan.json').read_text())
  assert fields['tags'][0]['areas'] == {'harp': 0.9, 'oboe': 0.5}
  assert fields['kinds'][0]['retrieval'][0]['served']['10']['mean'] == 0.4
  text = (tmp_path / 'out' / 'mulan.md').read_text()
  assert text == mulan_report.to_markdown(make_report(), about='A toy.')
