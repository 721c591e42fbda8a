# SPDX-License-Identifier: Apache-2.0
"""Opus comes back in step, and its bytes are counted, not believed."""

import io

import numpy as np
import pytest
import soundfile

from musiclm_jax.evaluation import alignment, opus

RATE_HZ = 24_000


def notes(num_samples=5 * RATE_HZ, seed=0):
  """Plucked tones with overtones, a stand-in for music."""
  draw = np.random.default_rng(seed)
  time = np.arange(num_samples) / RATE_HZ
  waveform = 1e-3 * draw.normal(size=num_samples)
  for onset in np.arange(0, time[-1], 0.25):
    since = np.maximum(time - onset, 0)
    pitch_hz = 220 * 2 ** (draw.integers(24) / 12)
    for overtone in range(1, 8):
      tone = np.sin(2 * np.pi * pitch_hz * overtone * since)
      waveform += 0.05 / overtone * tone * np.exp(-5 * since) * (time > onset)
  return waveform.astype(np.float32)


def chirp_and_clicks():
  """From 100 Hz to 10 kHz in 2 s, with five clicks: no lag is ambiguous."""
  time = np.arange(2 * RATE_HZ) / RATE_HZ
  waveform = 0.3 * np.sin(2 * np.pi * (100 * time + 2475 * time**2))
  waveform[4799::9601] += 0.5
  return waveform.astype(np.float32)


@pytest.mark.parametrize('target_kbps', [12, 24, 64])
def test_payload_is_near_what_the_encoder_was_asked_for(target_kbps):
  waveform = notes()
  coded = opus.code(waveform, sample_rate_hz=RATE_HZ, target_kbps=target_kbps)
  kbps = 8 * coded.payload_bytes / (waveform.size / RATE_HZ) / 1000
  assert 0.8 * target_kbps < kbps < 1.25 * target_kbps


def test_the_container_is_counted_apart():
  coded = opus.code(notes(), sample_rate_hz=RATE_HZ, target_kbps=6)
  container_kbps = 8 * (coded.file_bytes - coded.payload_bytes) / 5 / 1000
  assert 0.3 < container_kbps < 2.5


@pytest.mark.parametrize('target_kbps', [24, 64])
def test_a_chirp_with_clicks_comes_back_in_step(target_kbps):
  waveform = chirp_and_clicks()
  coded = opus.code(waveform, sample_rate_hz=RATE_HZ, target_kbps=target_kbps)
  lag = alignment.best_lag(waveform, coded.waveform, max_lag=960)
  assert lag == 0
  click = int(np.argmax(np.abs(np.diff(coded.waveform[14000:14800]))))
  assert abs(14000 + click - (4799 + 9601)) <= 2


@pytest.mark.parametrize('target_kbps', [6, 12])
def test_low_rates_are_late_by_two_samples_at_most(target_kbps):
  waveform = notes()
  coded = opus.code(waveform, sample_rate_hz=RATE_HZ, target_kbps=target_kbps)
  lag = alignment.best_lag(waveform, coded.waveform, max_lag=24)
  assert abs(lag) <= 2


def test_more_bits_come_nearer_to_the_original():
  waveform = notes()
  errors = []
  for target_kbps in (6, 12, 24, 64):
    copy = opus.code(
      waveform, sample_rate_hz=RATE_HZ, target_kbps=target_kbps
    ).waveform
    lag = alignment.best_lag(waveform, copy, max_lag=24)
    one, other = alignment.overlap(waveform, copy, lag=lag)
    errors.append(float(np.sum((one - other) ** 2)))
  assert errors == sorted(errors, reverse=True)
  assert errors[-1] < 0.05 * np.sum(waveform**2)


@pytest.mark.parametrize('num_samples', [101, 479, 24_001, 30_011])
def test_any_length_comes_back_at_that_length(num_samples):
  waveform = notes(num_samples)
  coded = opus.code(waveform, sample_rate_hz=RATE_HZ, target_kbps=24)
  assert coded.waveform.shape == (num_samples,)


def page(lacing, *, header=b'OggS' + bytes(22)):
  return header + bytes([len(lacing)]) + bytes(lacing) + bytes(sum(lacing))


def test_packet_sizes_equal_those_written_out_by_hand():
  # A packet of 3, one of 255 + 7, one of exactly 255 (which ends in a 0), and
  # one of 255 + 255 + 11 that goes over to the next page.
  data = page([3, 255, 7, 255, 0, 255]) + page([255, 11])
  assert opus.packet_sizes(data) == [3, 262, 255, 521]


def test_packets_and_container_make_up_the_file():
  file = io.BytesIO()
  soundfile.write(file, notes(), RATE_HZ, format='OGG', subtype='OPUS')
  data = file.getvalue()
  num_pages = data.count(b'OggS')
  lacing_bytes = len(data) - 27 * num_pages - sum(opus.packet_sizes(data))
  # One lacing byte begins each packet, and one more every 255 bytes.
  assert 0 < lacing_bytes - len(opus.packet_sizes(data)) < 20


def test_what_is_not_ogg_is_refused():
  with pytest.raises(ValueError, match='No Ogg page begins at byte 0 of 7'):
    opus.packet_sizes(b'RIFF...')


def test_a_rate_that_opus_lacks_is_refused():
  with pytest.raises(ValueError, match='no 44100 Hz; resample'):
    opus.code(notes(101), sample_rate_hz=44_100, target_kbps=24)


@pytest.mark.parametrize('target_kbps', [5, 257])
def test_a_bitrate_out_of_range_is_refused(target_kbps):
  with pytest.raises(ValueError, match='6 to 256 kbps'):
    opus.code(notes(101), sample_rate_hz=RATE_HZ, target_kbps=target_kbps)
