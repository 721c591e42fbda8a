# SPDX-License-Identifier: Apache-2.0
"""A stage beside its export: the same passes, a small defect does not."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy

from musiclm_jax.checkpoints import bundle
from musiclm_jax.export import clips, parity, parity_stages
from tests.export import whole
from tests.stages import toys

PLACE = 'stages/toy'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return whole.export_component(
    whole.stage(toys.SPEC), tmp_path_factory.mktemp('stage')
  )


def sheet():
  return parity.Sheet(clips='none', fingerprints={})


def pair(folder, *, exported=None):
  """What is in `exported` beside the bundle of `folder`."""
  found = bundle.load(folder.parent / 'bundle')
  return parity_stages.Pair.load(PLACE, found, exported or folder)


def packed(pair):
  config = pair.config
  return config.layout.pack(parity_stages.random_codes(config))


def by_name(sheet):
  return {check.name: check for check in sheet.checks}


@pytest.mark.slow
def test_layers_logits_and_codes_are_compared_and_the_same(folder):
  made = sheet()
  parity_stages.compare(
    made,
    PLACE,
    found=bundle.load(folder.parent / 'bundle'),
    folder=folder,
    clips=clips.synthetic(),
  )
  made.require_passed()
  checks = by_name(made)
  assert {
    'inputs',
    'transformer.relative_bias',
    'transformer.layers.1.attention.query_key_value',
    'transformer.norm',
    'logits of random rows',
  } < checks.keys()
  for name in (
    'likeliest codes of random rows',
    'codes, greedy',
    'codes, drawn',
  ):
    assert checks[name].equal_share == 1 and not checks[name].note


def damaged(folder, tmp_path, *, by):
  """The same folder with one row of the logits' table moved."""
  weights = safetensors.numpy.load_file(folder / 'model.safetensors')
  weights['logits.weight'][-3] += by
  safetensors.numpy.save_file(weights, tmp_path / 'model.safetensors')
  config = (folder / 'config.json').read_bytes()
  pathlib.Path(tmp_path / 'config.json').write_bytes(config)
  return tmp_path


def test_a_damaged_row_of_a_table_fails(folder, tmp_path):
  wrong = pair(folder, exported=damaged(folder, tmp_path, by=0.3))
  made = sheet()
  parity_stages.compare_logits(made, wrong, packed(wrong), about='rows')
  checks = by_name(made)
  assert not checks['logits of rows'].passed
  assert not checks['likeliest codes of rows'].passed
  with pytest.raises(ValueError, match='logits of rows: error'):
    made.require_passed()


def test_the_first_code_that_differs_must_be_a_near_tie(folder, tmp_path):
  """Of a decoder that goes wrong, the margins are reported and too large."""
  wrong = pair(folder, exported=damaged(folder, tmp_path, by=0.3))
  made = sheet()
  parity_stages.compare_decoding(
    made, wrong, packed(wrong), name='drawn', temperature=0.7
  )
  check = by_name(made)['codes, drawn']
  assert not check.passed and 'from step' in check.note
  assert 0 < check.equal_share < 1


def test_margins_count_what_was_drawn(folder):
  right = pair(folder)
  rows = packed(right)
  seeds = np.arange(len(rows), dtype=np.uint32)
  plain, drawn = (
    parity_stages._drawn_margins(
      right, rows, seeds, np.zeros_like(seeds), temperature=temperature
    )
    for temperature in (None, 1.0)
  )
  assert plain.shape == drawn.shape == (2, 24)
  assert (plain > 0).all() and abs(plain - drawn).min() > 0
