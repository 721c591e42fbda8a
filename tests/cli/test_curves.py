# SPDX-License-Identifier: Apache-2.0
"""A run's figures become a picture; a figure it lacks is named."""

import json

import pytest

from musiclm_jax.cli import curves, flags


@pytest.fixture
def model(tmp_path):
  folder = tmp_path / 'run' / 'metrics'
  folder.mkdir(parents=True)
  lines = [{'step': s, 'seconds': s, 'train/loss': 1 / s} for s in (1, 2, 3)]
  (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return tmp_path / 'run'


def test_a_curve_is_drawn_and_named(model, tmp_path):
  path = tmp_path / 'curve.svg'
  curves.main([f'--model={model}', f'--output={path}', 'train/loss'])
  assert '<!-- train/loss -->' in path.read_text()


def test_a_figure_that_the_run_lacks_is_named_with_the_nearest(model, tmp_path):
  with pytest.raises(flags.UsageError, match="'train/los'.*'train/loss'"):
    curves.main([f'--model={model}', f'--output={tmp_path}/c.svg', 'train/los'])


def test_a_folder_without_figures_is_named(tmp_path):
  with pytest.raises(flags.UsageError, match='metrics.jsonl does not exist'):
    curves.main([f'--model={tmp_path}', f'--output={tmp_path}/c.svg', 'loss'])
