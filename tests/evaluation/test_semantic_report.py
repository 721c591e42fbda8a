# SPDX-License-Identifier: Apache-2.0
import json

from musiclm_jax.evaluation import semantic_report
from musiclm_jax.evaluation.bootstrap import Estimate
from musiclm_jax.evaluation.codebook_usage import CodebookFigures
from musiclm_jax.evaluation.semantic import (
  CoverFigures,
  ProbeFigures,
  SemanticReport,
)


def near(mean):
  return Estimate(mean=mean, low=mean - 0.125, high=mean + 0.125, num_clips=7)


def make_report(*, with_covers=True):
  def probe(view, gains):
    return ProbeFigures(
      task='mode',
      view=view,
      num_classes=2,
      num_rows=14,
      accuracy=near(0.5),
      gains=gains,
    )

  return SemanticReport(
    probes=(probe('log-mel', {}), probe('tokens', {'log-mel': near(0.25)})),
    covers=(
      CoverFigures(
        view='tokens', score=near(0.75), same=near(0.5), different=near(0.625)
      ),
    )
    if with_covers
    else (),
    codebook=CodebookFigures(used_share=0.5, entropy_bits=3.0, perplexity=8.0),
    repeated_share=0.25,
    num_frames=310,
    num_tunes=7,
  )


def test_the_tables_say_what_was_found():
  lines = semantic_report.to_markdown(make_report(), about='A toy.').split('\n')
  assert lines[0] == 'A toy.'
  assert '| task | from | accuracy ↑ | gain over log-mel ↑ |' in lines
  assert '| mode (blind: 0.500) | log-mel | 0.500 [0.375, 0.625] |  |' in lines
  assert any('| tokens | 0.500' in s and '+0.250 [+0.125' in s for s in lines)
  assert any('7 tunes played twice' in line for line in lines)
  assert any(line.startswith('| tokens | 0.750 [0.625') for line in lines)
  assert any('310 held-out frames; 25.0% repeat' in line for line in lines)
  assert '| 1 | 50.0% | 3.00 | 8.0 |' in lines


def test_without_covers_the_page_is_silent_on_them():
  text = semantic_report.to_markdown(make_report(with_covers=False), about='')
  assert 'played twice' not in text


def test_both_files_are_written(tmp_path):
  semantic_report.write(make_report(), directory=tmp_path, about='A toy.')
  fields = json.loads((tmp_path / 'semantic.json').read_text())
  assert fields['probes'][1]['gains']['log-mel']['mean'] == 0.25
  assert (tmp_path / 'semantic.md').read_text().startswith('A toy.')
