# SPDX-License-Identifier: Apache-2.0
"""Tables and JSON say what the report says."""

import dataclasses
import json

import numpy as np
import pytest

from musiclm_jax.evaluation import codec_report as reports
from musiclm_jax.evaluation.codebook_usage import CodebookFigures
from musiclm_jax.evaluation.codec import (
  CodecReport,
  SystemFigures,
)

# The codec is better by exactly 1 on every clip, though clips differ by more.
CODEC = (1.0, 5.0, 11.0)
OPUS = (2.0, 6.0, 12.0)


def make_report(*, with_opus=True):
  systems = [
    SystemFigures(
      name='codec, 4 levels',
      nominal_kbps=2.0,
      measured_kbps=1.75,
      figures={'mel_distance_db': CODEC},
    )
  ]
  for kbps in (12, 6) if with_opus else ():
    systems.append(
      SystemFigures(
        name=f'Opus, {kbps} kbps',
        nominal_kbps=float(kbps),
        measured_kbps=kbps + 0.5,
        figures={'mel_distance_db': OPUS},
      )
    )
  return CodecReport(
    systems=tuple(systems),
    codebooks=(
      CodebookFigures(used_share=0.25, entropy_bits=3.0, perplexity=8.0),
    ),
    num_clips=3,
    seconds=30.0,
    sample_rate_hz=24_000,
    num_frames=1500,
  )


def test_the_table_has_a_row_a_system_with_both_bitrates():
  lines = reports.to_markdown(make_report(), about='A toy.').splitlines()
  assert lines[0] == 'A toy.'
  assert (
    '| system | kbps nominal | kbps measured | mel distance, dB ↓ |' in lines
  )
  (row,) = [
    line for line in lines if line.startswith('| codec, 4 levels | 2.0')
  ]
  assert row.startswith('| codec, 4 levels | 2.0 | 1.75 | 5.667 [')
  assert any('3 clips, 30 s' in line for line in lines)
  assert '| 1 | 25.0% | 3.00 | 8.0 |' in lines


def test_differences_are_taken_clip_by_clip_to_the_lowest_opus():
  text = reports.to_markdown(make_report(), about='')
  assert 'Difference to Opus, 6 kbps on the same clips' in text
  assert '| codec, 4 levels | -1.000 [-1.000, -1.000] |' in text
  assert '| Opus, 12 kbps | +0.000 [+0.000, +0.000] |' in text


def test_without_opus_there_are_no_differences():
  text = reports.to_markdown(make_report(with_opus=False), about='')
  assert 'Difference' not in text


def test_both_files_are_written_and_json_holds_every_clip(tmp_path):
  reports.write(make_report(), directory=tmp_path / 'out', about='A toy.')
  fields = json.loads((tmp_path / 'out' / 'codec.json').read_text())
  first = fields['systems'][0]
  assert first['figures']['mel_distance_db'] == list(CODEC)
  estimate = first['estimates']['mel_distance_db']
  assert estimate['mean'] == pytest.approx(np.mean(CODEC))
  assert estimate['low'] < estimate['mean'] < estimate['high']
  assert estimate['num_clips'] == 3
  text = (tmp_path / 'out' / 'codec.md').read_text()
  assert text == reports.to_markdown(make_report(), about='A toy.')


def test_an_infinite_figure_is_null_in_json(tmp_path):
  report = make_report()
  silent = dataclasses.replace(
    report.systems[0], figures={'mel_distance_db': (1.0, float('-inf'), 2.0)}
  )
  report = dataclasses.replace(report, systems=(silent,))
  reports.write(report, directory=tmp_path, about='')
  fields = json.loads((tmp_path / 'codec.json').read_text())
  assert fields['systems'][0]['figures']['mel_distance_db'] == [1.0, None, 2.0]
  assert '-inf' in (tmp_path / 'codec.md').read_text()
