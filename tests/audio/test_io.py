# SPDX-License-Identifier: Apache-2.0
import os
import pickle
import struct

import numpy as np
import pytest
import soundfile

from musiclm_jax.audio import io, resample
from musiclm_jax.audio.io import AudioFileError


def melody(num_samples=48_000, rate_hz=24_000, channels=1, seed=0):
  """A few tones, different in each channel, in float32."""
  random = np.random.default_rng(seed)
  times = np.arange(num_samples)[:, None] / rate_hz
  tones = [
    np.sin(2 * np.pi * random.uniform(100, 1500, channels) * times)
    for _ in range(3)
  ]
  return (0.2 * sum(tones)).astype(np.float32)


FORMATS = [
  ('wav', 'WAV', None),
  ('flac', 'FLAC', None),
  ('ogg', 'OGG', 'VORBIS'),
  ('mp3', 'MP3', None),
  ('opus', 'OGG', 'OPUS'),
]


@pytest.mark.parametrize(
  ('suffix', 'lossless'),
  [
    ('wav', True),
    ('flac', True),
    ('ogg', False),
    ('mp3', False),
    ('opus', False),
  ],
)
def test_what_is_written_is_read_back(tmp_path, suffix, lossless):
  path = tmp_path / f'melody.{suffix}'
  waveform = melody()[:, 0]
  io.write(path, waveform, sample_rate_hz=24_000)
  recording = io.read(path)
  assert recording.sample_rate_hz == 24_000
  assert recording.waveform.dtype == np.float32
  if lossless:
    np.testing.assert_allclose(recording.waveform, waveform, atol=2**-15)
  else:
    assert abs(len(recording.waveform) - len(waveform)) < 1200
    inner = slice(2000, 40_000)
    error = np.std((recording.waveform[: len(waveform)] - waveform)[inner])
    assert error < 0.15 * np.std(waveform)  # Opus: 0.11
  assert os.listdir(tmp_path) == [path.name]  # no temporary is left


@pytest.mark.parametrize(('suffix', 'name', 'subtype'), FORMATS)
def test_channels_are_averaged(tmp_path, suffix, name, subtype):
  path = tmp_path / f'melody.{suffix}'
  channels = 3 if suffix in ('wav', 'flac', 'ogg') else 2
  waveform = melody(channels=channels)
  soundfile.write(path, waveform, 24_000, format=name, subtype=subtype)
  read = io.read(path).waveform[2000:40_000]
  expected = np.mean(waveform, axis=1)[2000:40_000]
  assert np.std(read - expected) < 0.08 * np.std(expected)


@pytest.mark.parametrize(('suffix', 'name', 'subtype'), FORMATS)
@pytest.mark.parametrize('to_hz', [24_000, 16_000, 22_050])
def test_a_part_equals_that_part_of_the_whole(
  tmp_path, suffix, name, subtype, to_hz
):
  path = tmp_path / f'melody.{suffix}'
  soundfile.write(
    path, melody(num_samples=120_000), 24_000, format=name, subtype=subtype
  )
  whole = io.read(path, sample_rate_hz=to_hz).waveform
  for start, seconds in ((0, 0.5), (1.37, 0.73), (2.2, 1), ('7/3', '1/7')):
    part = io.read(
      path, sample_rate_hz=to_hz, start_seconds=start, num_seconds=seconds
    ).waveform
    numbers = {'7/3': 7 / 3, '1/7': 1 / 7}
    first = int(numbers.get(start, start) * to_hz + 1e-6)
    assert len(part) == int(numbers.get(seconds, seconds) * to_hz + 1e-6)
    # Lossy decoders begin anew after a seek; a shift of one sample would be
    # an error of about 0.1.
    atol = 1e-5 if suffix in ('wav', 'flac') else 5e-3
    np.testing.assert_allclose(
      part, whole[first : first + len(part)], atol=atol
    )


def test_only_what_is_asked_for_is_decoded(tmp_path, monkeypatch):
  path = tmp_path / 'long.wav'
  soundfile.write(path, np.zeros(44_100 * 60, np.float32), 44_100)
  read = soundfile.SoundFile.read
  decoded = []

  def counting(self, frames=-1, **settings):
    decoded.append(frames)
    return read(self, frames, **settings)

  monkeypatch.setattr(soundfile.SoundFile, 'read', counting)
  io.read(path, sample_rate_hz=24_000, start_seconds=31, num_seconds=1)
  assert len(decoded) == 1 and decoded[0] < 1.2 * 44_100


@pytest.mark.parametrize('from_hz', [8_000, 16_000, 44_100, 96_000])
def test_rate_that_is_asked_for_is_the_rate_that_comes(tmp_path, from_hz):
  path = tmp_path / 'melody.wav'
  waveform = melody(num_samples=from_hz, rate_hz=from_hz)[:, 0]
  soundfile.write(path, waveform, from_hz, subtype='FLOAT')
  recording = io.read(path, sample_rate_hz=24_000)
  assert recording.sample_rate_hz == 24_000
  np.testing.assert_allclose(
    recording.waveform,
    resample.resample(waveform, from_hz=from_hz, to_hz=24_000),
    atol=1e-6,
  )


def test_part_beyond_the_end_is_what_the_file_has(tmp_path):
  path = tmp_path / 'melody.wav'
  io.write(path, melody()[:, 0], sample_rate_hz=24_000)
  part = io.read(path, start_seconds=1.5, num_seconds=3)
  assert len(part.waveform) == 12_000


def expect(path, reason, match, **settings):
  with pytest.raises(AudioFileError, match=match) as caught:
    io.read(path, **settings)
  assert caught.value.reason == reason
  assert str(path) in str(caught.value) and '\n' not in str(caught.value)
  assert isinstance(caught.value, ValueError)


def test_missing_file_is_named(tmp_path):
  expect(tmp_path / 'none.wav', 'missing', 'No such file.*check the path')


def test_error_comes_back_from_a_worker_process(tmp_path):
  with pytest.raises(AudioFileError) as caught:
    io.read(tmp_path / 'none.wav')
  back = pickle.loads(pickle.dumps(caught.value))
  assert str(back) == str(caught.value)
  assert (back.path, back.reason) == (str(tmp_path / 'none.wav'), 'missing')


def test_folder_is_not_a_file(tmp_path):
  expect(tmp_path, 'missing', 'Is a directory')


@pytest.mark.parametrize('suffix', ['wav', 'mp3', 'flac'])
def test_file_that_is_not_audio_is_named(tmp_path, suffix):
  path = tmp_path / f'text.{suffix}'
  path.write_text('These are words. ' * 300)
  expect(path, 'not_audio', 'is not audio in a format that is known')


def test_empty_files_are_named(tmp_path):
  path = tmp_path / 'zero.wav'
  path.touch()
  expect(path, 'empty', 'is an empty file')
  soundfile.write(path, np.zeros(0, np.float32), 24_000)
  expect(path, 'empty', 'no sample from 0 s on; the file has 0 s')


def test_start_beyond_the_end_tells_how_long_the_file_is(tmp_path):
  path = tmp_path / 'melody.wav'
  io.write(path, melody()[:, 0], sample_rate_hz=24_000)
  expect(
    path,
    'empty',
    'from 2 s on for 1 s; the file has 2 s',
    start_seconds=2,
    num_seconds=1,
  )


@pytest.mark.parametrize(('suffix', 'name', 'subtype'), FORMATS)
def test_file_that_is_cut_short_is_named(tmp_path, suffix, name, subtype):
  path = tmp_path / f'melody.{suffix}'
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, 240_000)
  soundfile.write(path, noise, 24_000, format=name, subtype=subtype)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  expect(path, 'damaged', 'cut short')


def test_wav_whose_header_counts_itself_is_read(tmp_path):
  path = tmp_path / 'sloppy.wav'
  soundfile.write(path, melody(), 24_000)
  data = bytearray(path.read_bytes())
  data[4:8] = struct.pack('<I', len(data))  # eight too many
  path.write_bytes(data)
  assert len(io.read(path).waveform) == 48_000


def test_wav_from_a_pipe_is_read(tmp_path):
  path = tmp_path / 'pipe.wav'
  soundfile.write(path, melody(), 24_000)
  data = bytearray(path.read_bytes())
  data[4:8] = struct.pack('<I', 2**32 - 1)
  path.write_bytes(data)
  assert len(io.read(path).waveform) == 48_000


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_counted(tmp_path, value):
  path = tmp_path / 'broken.wav'
  waveform = melody()
  waveform[[7, 11, 13]] = value
  soundfile.write(path, waveform, 24_000, subtype='FLOAT')
  expect(path, 'not_finite', '3 of 48000 samples are NaN')
  with pytest.raises(AudioFileError, match='3 of 48000 samples are NaN'):
    io.write(tmp_path / 'out.wav', waveform[:, 0], sample_rate_hz=24_000)
  assert not (tmp_path / 'out.wav').exists()


def test_waveform_without_its_rate_is_an_error(tmp_path):
  with pytest.raises(TypeError, match='sample_rate_hz'):
    io.write(tmp_path / 'out.wav', melody()[:, 0])


def test_suffix_of_no_format_is_an_error(tmp_path):
  with pytest.raises(AudioFileError, match="'.xyz'; use .wav, .flac"):
    io.write(tmp_path / 'out.xyz', melody()[:, 0], sample_rate_hz=24_000)


def test_folder_that_does_not_exist_is_an_error_that_names_the_goal(tmp_path):
  path = tmp_path / 'none' / 'out.wav'
  with pytest.raises(
    AudioFileError, match='none/out.wav: could not be written'
  ):
    io.write(path, melody()[:, 0], sample_rate_hz=24_000)


def test_rate_that_a_format_has_not_leaves_the_old_file(tmp_path):
  path = tmp_path / 'out.opus'
  path.write_bytes(b'old')
  with pytest.raises(AudioFileError, match='could not be written at 44100 Hz'):
    io.write(path, melody()[:, 0], sample_rate_hz=44_100)
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['out.opus']


def test_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'out.wav'
  io.write(path, melody()[:, 0], sample_rate_hz=24_000)
  before = path.read_bytes()

  def disk_is_full(file, *_, **__):
    with open(file, 'wb') as half:
      half.write(b'half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(soundfile, 'write', disk_is_full)
  with pytest.raises(AudioFileError, match='No space left on device'):
    io.write(path, 0 * melody()[:, 0], sample_rate_hz=24_000)
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['out.wav']


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
  path = tmp_path / 'loud.wav'
  io.write(path, np.array([0.5, 1.7, -2.9], np.float32), sample_rate_hz=24_000)
  np.testing.assert_allclose(io.read(path).waveform, [0.5, 1, -1], atol=1e-4)
