# SPDX-License-Identifier: Apache-2.0
"""Figures of a codec that can be worked out by hand are found."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.evaluation import codec as codec_evaluation
from tests.evaluation.toy_codec import CODEBOOK_SIZE, ToyCodec

NUM_CLIPS = 3
NUM_SAMPLES = 24_007


def largest_error(reference, estimate, *, sample_rate_hz):
  assert sample_rate_hz == 24_000
  assert reference.shape == estimate.shape
  return float(np.max(np.abs(reference - estimate)))


def clips():
  draw = np.random.default_rng(0)
  return [
    draw.uniform(-1, 1, NUM_SAMPLES).astype(np.float32)
    for _ in range(NUM_CLIPS)
  ]


def evaluate(waveforms, **options):
  systems = codec_evaluation.Systems(codec=ToyCodec(), **options)
  return codec_evaluation.evaluate(
    systems, waveforms, metrics={'error': largest_error}
  )


@pytest.fixture(scope='module')
def report():
  return evaluate(clips(), levels=(1, 2, 8), opus_kbps=(6, 24))


def test_levels_that_the_codec_has_and_all_of_them_are_reported(report):
  assert [system.name for system in report.systems] == [
    'codec, 1 level',
    'codec, 2 levels',
    'codec, 3 levels',
    'Opus, 6 kbps',
    'Opus, 24 kbps',
  ]


def test_errors_are_those_of_the_rounding_clip_by_clip(report):
  for system, bound in zip(report.systems, [0.2, 0.04, 0.008]):
    errors = np.array(system.figures['error'])
    assert errors.shape == (NUM_CLIPS,)
    np.testing.assert_allclose(errors, bound, rtol=0.01)


def test_bitrates_of_evenly_used_codes_are_the_nominal_ones(report):
  for count, system in enumerate(report.systems[:3], start=1):
    nominal = count * np.log2(CODEBOOK_SIZE) * 24
    assert system.nominal_kbps == pytest.approx(nominal)
    assert system.measured_kbps == pytest.approx(nominal, rel=2e-3)


def test_bitrate_of_opus_is_measured(report):
  low, high = report.systems[3:]
  assert (low.nominal_kbps, high.nominal_kbps) == (6, 24)
  assert low.measured_kbps not in (0, 6)
  assert 12 < high.measured_kbps < 36


def test_counts_are_over_all_clips(report):
  assert report.num_clips == NUM_CLIPS
  assert report.num_frames == NUM_CLIPS * NUM_SAMPLES
  assert report.seconds == pytest.approx(NUM_CLIPS * NUM_SAMPLES / 24_000)


def test_codebook_figures_equal_those_worked_out_by_hand():
  # The first level sees codes 1 and 3, half of the time each; the others
  # always code 2, for there is no residual.
  waveform = np.tile(np.float32([-0.4, 0.4]), 1009)
  report = evaluate([waveform], opus_kbps=())
  first, *others = report.codebooks
  assert first.used_share == 2 / 5
  assert first.entropy_bits == pytest.approx(1)
  assert first.perplexity == pytest.approx(2)
  for level in others:
    assert (level.used_share, level.entropy_bits) == (1 / 5, 0)
    assert level.perplexity == 1
  assert [system.measured_kbps for system in report.systems] == (
    pytest.approx([24, 24, 24])
  )


def test_opus_is_asked_for_the_bitrates_of_the_codec_as_far_as_it_goes():
  def matched(rate_hz, **options):
    codec = ToyCodec()
    codec.stream = dataclasses.replace(codec.stream, rate_hz=rate_hz)
    systems = codec_evaluation.Systems(codec=codec, **options)
    return systems.levels, systems.opus_kbps

  # log2(5) = 2.32 bits a code; Opus has nothing below 6 kbps.
  assert matched(1_000) == ((1, 2, 3), (6, 7, 14, 28))
  assert matched(6_000) == ((1, 2, 3), (14, 28, 42, 84, 167))
  assert matched(24_000, levels=(3,)) == ((3,), (167, 256))
  assert matched(6_000, opus_kbps=())[1] == ()


def test_no_clips_are_an_error():
  with pytest.raises(ValueError, match='no clips'):
    evaluate(iter(()))


def test_the_metrics_of_a_report_order_copies_as_they_should():
  time = np.arange(NUM_SAMPLES) / 24_000
  tone = 0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
  cheap = {k: v for k, v in codec_evaluation.METRICS.items() if k != 'visqol'}
  report = codec_evaluation.evaluate(
    codec_evaluation.Systems(codec=ToyCodec(), opus_kbps=()),
    [tone],
    metrics=cheap,
  )
  distances = [s.figures['mel_distance_db'][0] for s in report.systems]
  ratios = [s.figures['si_sdr_db'][0] for s in report.systems]
  assert distances == sorted(distances, reverse=True)
  assert ratios == sorted(ratios)
