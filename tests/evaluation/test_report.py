# SPDX-License-Identifier: Apache-2.0
import json

from musiclm_jax.evaluation import report
from musiclm_jax.evaluation.bootstrap import Estimate


def test_a_table_has_a_head_a_rule_and_rows():
  assert report.table([['a', 'b'], ['1', '2']]).splitlines() == [
    '| a | b |',
    '| --- | --- |',
    '| 1 | 2 |',
  ]


def test_an_estimate_is_shown_with_its_interval():
  estimate = Estimate(mean=0.5, low=-0.25, high=1.0, num_clips=3)
  assert report.show(estimate) == '0.500 [-0.250, 1.000]'
  assert report.show(estimate, sign='+') == '+0.500 [-0.250, +1.000]'


def test_both_files_are_written_and_an_infinity_is_null(tmp_path):
  fields = {'about': 'a toy', 'nested': [{'figures': (1.0, float('-inf'))}]}
  report.write(tmp_path / 'new', name='toy', fields=fields, text='# A toy\n')
  assert json.loads((tmp_path / 'new' / 'toy.json').read_text()) == {
    'about': 'a toy',
    'nested': [{'figures': [1.0, None]}],
  }
  assert (tmp_path / 'new' / 'toy.md').read_text() == '# A toy\n'
