# SPDX-License-Identifier: Apache-2.0
"""Codebooks fitted to toy towers: found, frozen, named, and counted."""

import logging

import numpy as np
import pytest

from musiclm_jax import batches
from musiclm_jax.checkpoints import bundle
from musiclm_jax.conditioning import base
from musiclm_jax.quantization import residual
from musiclm_jax.tokenization import fit_mulan_rvq
from tests.conditioning import toys

BATCH = 4
CROP_SECONDS = 5
QUANTIZER = residual.ResidualQuantizerConfig(
  num_levels=2, codebook_size=7, dead_code_threshold=0.1, dropout_rate=0.0
)


class Tones:
  """Row n is a tone of band n % 7, of two levels; the last is short."""

  batch_size = BATCH

  def __init__(self, *, num_rows=29):
    self.num_rows = num_rows

  def batches(self, start, *, process_index=0, process_count=1):
    samples = CROP_SECONDS * toys.RATE_HZ
    for first in range(start * BATCH, self.num_rows, BATCH):
      waveform = np.zeros((BATCH, samples), np.float32)
      mask = np.zeros((BATCH, samples), bool)
      for row, n in enumerate(range(first, min(first + BATCH, self.num_rows))):
        seconds = 2 if n == self.num_rows - 1 else CROP_SECONDS
        tone = toys.tone(n % toys.NUM_BANDS, seconds=seconds)
        waveform[row, : len(tone)] = tone * (0.2 + 0.1 * (n % 3))
        mask[row, : len(tone)] = True
      yield {batches.WAVEFORM: waveform, batches.SAMPLE_MASK: mask}


def fit(directory, **changes):
  settings = {
    'trained': directory / 'towers',
    'model_dir': directory / 'conditioner',
    'crops': Tones(),
    'sample_rate_hz': toys.RATE_HZ,
    'num_crops': 29,
    'quantizer': QUANTIZER,
    'batch_size': 64,
    'num_steps': 3,
    'gin_config': lambda: '# as run',
  } | changes
  return fit_mulan_rvq.fit(**settings)


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
  directory = tmp_path_factory.mktemp('fit')
  toys.publish_towers(directory / 'towers')
  fit(directory)
  return directory


def test_each_sort_of_audio_gets_a_code_that_its_text_shares(fitted):
  conditioner = base.load_conditioner(fitted / 'conditioner')
  tones = np.stack([toys.tone(n, seconds=5) for n in range(toys.NUM_BANDS)])
  codes = conditioner.encode_audio(tones, sample_rate_hz=toys.RATE_HZ)
  assert len(set(codes[:, 0, 0])) == toys.NUM_BANDS
  texts = conditioner.encode_text([f'band {n}' for n in range(toys.NUM_BANDS)])
  np.testing.assert_array_equal(texts[:, 0, 0], codes[:, 0, 0])


def test_the_bundle_is_whole_and_names_its_towers(fitted):
  towers = bundle.load(fitted / 'towers')
  found = bundle.load(fitted / 'conditioner', kind=base.CONDITIONER)
  assert found.trained_on == {base.TRAINED_ON_TOWERS: towers.fingerprint}
  assert found.stream_out.fingerprint == found.fingerprint
  assert (found.stream_out.num_codebooks, found.stream_out.codebook_size) == (
    2,
    7,
  )
  np.testing.assert_array_equal(
    found.weights['towers']['params']['gains'],
    towers.weights['params']['gains'],
  )
  assert (fitted / 'conditioner' / 'config.gin').read_text() == '# as run'


def test_the_same_fit_gives_the_same_codebooks_and_another_seed_others(
  fitted, tmp_path
):
  toys.publish_towers(tmp_path / 'towers')
  first = bundle.load(fitted / 'conditioner').fingerprint
  assert fit(tmp_path) == first
  assert fit(tmp_path, seed=1) != first


def test_points_are_the_windows_of_a_crop_and_their_mean():
  space = toys.space()
  crop = np.concatenate([toys.tone(1, seconds=3), toys.tone(2, seconds=3)])
  settings = {'sample_rate_hz': toys.RATE_HZ, 'hop_seconds': 3}
  points = fit_mulan_rvq.crop_points(space, crop, **settings)
  expected = [toys.direction(1), toys.direction(2), toys.direction(1, 2)]
  np.testing.assert_allclose(points, expected, atol=0.02)
  alone = fit_mulan_rvq.crop_points(space, crop[:500], **settings)
  assert len(alone) == 1  # Its mean would be itself again.


def test_more_codes_than_points_are_an_error_that_says_what_would_fit(tmp_path):
  toys.publish_towers(tmp_path / 'towers')
  size = residual.ResidualQuantizerConfig(num_levels=2, codebook_size=1024)
  with pytest.raises(
    ValueError, match='113 points cannot fill 1024 codes.*codebook_size to 11'
  ):
    fit(tmp_path, quantizer=size)
  assert not (tmp_path / 'conditioner').exists()


def test_hardly_more_points_than_codes_are_a_warning_that_counts(caplog):
  points = np.random.default_rng(0).standard_normal((35, 7), np.float32)
  with caplog.at_level(logging.WARNING):
    fit_mulan_rvq.fit_codebooks(
      points, config=QUANTIZER, batch_size=35, num_steps=1, seed=0
    )
  assert '35 points for 7 codes a level are 5.0 a code' in caplog.text


def test_a_first_batch_that_cannot_start_a_level_is_an_error():
  points = np.random.default_rng(0).standard_normal((101, 7), np.float32)
  with pytest.raises(ValueError, match='batch_size is 5.*starts 7 codes'):
    fit_mulan_rvq.fit_codebooks(
      points, config=QUANTIZER, batch_size=5, num_steps=1, seed=0
    )


def test_projections_which_averages_cannot_train_are_refused(tmp_path):
  factorized = residual.ResidualQuantizerConfig(
    num_levels=2, codebook_size=7, factorized_dim=3
  )
  with pytest.raises(ValueError, match='factorized_dim is 3'):
    fit(tmp_path, quantizer=factorized)


def test_a_codec_is_no_towers(tmp_path):
  toys.publish_conditioner(tmp_path / 'towers')
  with pytest.raises(ValueError, match="'mulan' is wanted.*'conditioner'"):
    fit(tmp_path)
