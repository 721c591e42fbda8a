# SPDX-License-Identifier: Apache-2.0
"""What a clip must be, and what it is turned into."""

import numpy as np
import pytest

from musiclm_jax.data import shards, sources

SETTINGS = shards.ShardSettings(
  sample_rate_hz=10, min_seconds=0.5, silence_dbfs=-20.0
)


def _prepare(samples, rate_hz=10):
  clip = sources.Clip(
    waveform=np.array(samples, np.float32), sample_rate_hz=rate_hz
  )
  return shards.prepare(clip, settings=SETTINGS)


def test_samples_are_rounded_to_the_nearest_of_16_bits():
  prepared = _prepare([0, 0.5, -0.5, 0.25 + 0.4 / 2**15, 1, -1])
  assert prepared.samples.tolist() == [0, 16384, -16384, 8192, 32767, -32767]
  assert prepared.samples.dtype == np.int16
  assert not prepared.scaled


def test_beyond_full_scale_the_whole_clip_is_turned_down():
  prepared = _prepare([0, 1, -2, 0.5, 0])
  assert prepared.samples.tolist() == [0, 16384, -32767, 8192, 0]
  assert prepared.scaled


@pytest.mark.parametrize(
  ('samples', 'reason', 'detail'),
  [
    ([0.1, np.nan, 0.1, np.inf, 0.1], 'not finite', '2 samples'),
    ([0.5] * 4, 'too short', '0.400 s of at least 0.5 s'),
    ([0.09] * 7, 'silent', 'below -20 dBFS'),
    ([], 'too short', '0.000 s'),
  ],
)
def test_an_unusable_clip_is_rejected_with_its_reason(samples, reason, detail):
  with pytest.raises(sources.RejectedClip, match=detail) as caught:
    _prepare(samples)
  assert caught.value.reason == reason


def test_a_peak_at_the_limit_is_not_silent():
  assert _prepare([0.11] * 5).samples.any()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'file.json'
  shards.write_json(path, {'version': 1})
  with pytest.raises(ZeroDivisionError):
    with shards.replacing(path) as file:
      file.write(b'half')
      raise ZeroDivisionError
  assert path.read_text() == '{\n "version": 1\n}'
  assert [entry.name for entry in tmp_path.iterdir()] == ['file.json']
