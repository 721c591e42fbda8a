# SPDX-License-Identifier: Apache-2.0
import io
import struct
import zipfile

import numpy as np
import pytest
import soundfile
import torch

from musiclm_jax.export.serving import audio_file

RATE_HZ = 8000


def noise(num_samples):
  generator = torch.Generator().manual_seed(3)
  return torch.rand(num_samples, generator=generator) - 0.5


def read(content):
  pcm, rate_hz = soundfile.read(io.BytesIO(content), dtype='int16')
  assert rate_hz == RATE_HZ
  return pcm


def in_parts(audio_format, samples, *, sizes):
  file = audio_file.encoder(
    audio_format, sample_rate_hz=RATE_HZ, num_samples=len(samples)
  )
  return [file.add(part) for part in samples.split(sizes)] + [file.end()]


def test_a_wav_by_hand():
  content = audio_file.whole(
    torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5]),
    audio_format='wav',
    sample_rate_hz=RATE_HZ,
  )
  assert content[:4] + content[8:16] == b'RIFFWAVEfmt '
  assert struct.unpack('<I', content[4:8]) == (len(content) - 8,)
  # Half of full scale lies between two values; the even one is taken.
  assert struct.unpack('<5h', content[44:]) == (0, 32767, -32767, 32767, 16384)


@pytest.mark.parametrize('audio_format', ('wav', 'flac'))
def test_a_reader_hears_what_was_written(audio_format):
  samples = noise(7001)
  content = audio_file.whole(
    samples, audio_format=audio_format, sample_rate_hz=RATE_HZ
  )
  expected = np.round(samples.numpy() * 32767).astype(np.int16)
  np.testing.assert_array_equal(read(content), expected)
  assert soundfile.info(io.BytesIO(content)).frames == 7001


@pytest.mark.parametrize('audio_format', ('wav', 'flac'))
def test_parts_are_final_and_joined_they_are_the_whole(audio_format):
  samples = noise(5 * 9001)
  parts = in_parts(audio_format, samples, sizes=9001)
  # Most is there before the last part is known.
  assert all(len(part) > 1000 for part in parts[:5])
  np.testing.assert_array_equal(
    read(b''.join(parts)),
    read(
      audio_file.whole(
        samples, audio_format=audio_format, sample_rate_hz=RATE_HZ
      )
    ),
  )


def test_a_wav_has_the_same_bytes_however_it_was_cut():
  samples = noise(977)
  whole = audio_file.whole(samples, audio_format='wav', sample_rate_hz=RATE_HZ)
  for sizes in (1, 31, 977):
    assert b''.join(in_parts('wav', samples, sizes=sizes)) == whole


def test_a_zip_holds_the_files_and_is_the_same_whenever_it_is_made():
  files = {'5.wav': b'five', '6.wav': b'six'}
  content = audio_file.zipped(files)
  assert content == audio_file.zipped(files)
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    assert {name: archive.read(name) for name in archive.namelist()} == files


def test_samples_that_are_not_finite_are_an_error():
  with pytest.raises(ValueError, match='not finite'):
    audio_file.whole(
      torch.tensor([0.0, float('nan')]),
      audio_format='wav',
      sample_rate_hz=RATE_HZ,
    )
