# SPDX-License-Identifier: Apache-2.0
"""One set of figures in two files, and what a restart takes back."""

import json
import math

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from musiclm_jax.training import metrics_writer
from musiclm_jax.training.metrics_writer import MetricsWriter


def lines(directory):
  return list(metrics_writer.read(directory / metrics_writer.FILE_NAME))


def summaries(directory):
  """(step, value) of every summary in the TensorBoard files of a folder."""
  found = []
  for path in sorted(directory.glob('events.out.*')):
    data = path.read_bytes()
    while data:  # Length (8), its checksum (4), payload, its checksum (4).
      length = int.from_bytes(data[:8], 'little')
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      found += [(event.step, value) for value in event.summary.value]
      data = data[16 + length :]
  return found


def test_both_files_hold_the_same_figures(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    writer.scalars(3, {'train/loss': 0.5, 'train/skipped': 0.0})
    writer.scalars(5, {'train/loss': 0.25})
  in_lines = {
    (line['step'], name): value
    for line in lines(tmp_path)
    for name, value in line.items()
    if name not in ('step', 'seconds')
  }
  in_events = {
    (step, value.tag): value.simple_value for step, value in summaries(tmp_path)
  }
  assert in_lines == in_events
  assert in_lines == {
    (3, 'train/loss'): 0.5,
    (3, 'train/skipped'): 0.0,
    (5, 'train/loss'): 0.25,
  }


def test_resumed_run_takes_back_what_was_beyond_its_checkpoint(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    for step in (1, 2, 3, 4):
      writer.scalars(step, {'loss': float(step)})
  with MetricsWriter(tmp_path, resumed_step=2) as writer:
    writer.scalars(3, {'loss': 30.0})
  assert [(line['step'], line['loss']) for line in lines(tmp_path)] == [
    (1, 1.0),
    (2, 2.0),
    (3, 30.0),
  ]


def test_a_finished_run_that_is_started_again_has_each_figure_once(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    writer.scalars(3, {'train/loss': 1.0})
    writer.scalars(3, {'evaluate/error': 2.0})
  for _ in range(2):
    with MetricsWriter(tmp_path, resumed_step=3) as writer:
      writer.scalars(3, {'evaluate/error': 2.0, 'evaluate/new': 4.0})
      writer.scalars(3, {'evaluate/error': 2.0})
  assert [list(line)[2:] for line in lines(tmp_path)] == [
    ['train/loss'],
    ['evaluate/error'],
    ['evaluate/new'],
  ]


def test_line_that_a_kill_cut_off_is_dropped(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    writer.scalars(1, {'loss': 1.0})
  path = tmp_path / metrics_writer.FILE_NAME
  with path.open('a') as file:
    file.write('{"step": 2, "lo')
  with MetricsWriter(tmp_path, resumed_step=1) as writer:
    writer.scalars(2, {'loss': 2.0})
  assert [line['step'] for line in lines(tmp_path)] == [1, 2]


def test_figure_that_is_not_finite_is_null_and_the_line_still_json(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    writer.scalars(1, {'loss': math.nan, 'norm': math.inf})

  def refuse(constant):
    pytest.fail(f'{constant} is not JSON')

  text = (tmp_path / metrics_writer.FILE_NAME).read_text()
  line = json.loads(text, parse_constant=refuse)
  assert line['loss'] is None and line['norm'] is None


def test_audio_is_logged_with_its_picture(tmp_path):
  samples = np.arange(4801) / 24000
  tone = 0.5 * np.sin(2 * np.pi * 3000 * samples).astype(np.float32)
  with MetricsWriter(tmp_path) as writer:
    writer.waveforms(
      7, {'evaluate/original': np.stack([tone, -tone])}, sample_rate_hz=24000
    )
  found = {
    (value.tag, value.WhichOneof('value')): (step, value)
    for step, value in summaries(tmp_path)
  }
  assert set(found) == {
    (f'evaluate/original/{row}', kind)
    for row in (0, 1)
    for kind in ('audio', 'image')
  }
  step, value = found['evaluate/original/1', 'audio']
  assert step == 7
  assert value.audio.sample_rate == 24000
  assert value.audio.length_frames == 4801


def test_picture_shows_a_tone_at_its_height():
  samples = np.arange(48000)
  tone = 0.5 * np.sin(2 * np.pi * 0.125 * samples).astype(np.float32)
  picture = metrics_writer._picture(tone)
  height, _, _ = picture.shape
  brightest = int(picture.sum(axis=(1, 2)).argmax())
  # An eighth of the rate is a quarter of the height, from the bottom.
  assert brightest == height - 1 - 128 and height == 513


def test_other_processes_write_nothing(tmp_path):
  with MetricsWriter(tmp_path / 'metrics', active=False) as writer:
    writer.scalars(1, {'loss': 1.0})
    writer.waveforms(1, {'a': np.zeros((1, 8))}, sample_rate_hz=8)
  assert list(tmp_path.iterdir()) == []
