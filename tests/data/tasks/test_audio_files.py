# SPDX-License-Identifier: Apache-2.0
"""Finding and reading audio files."""

import numpy as np
import pytest

from musiclm_jax.data import sources
from musiclm_jax.data.tasks import audio_files
from tests.data.tasks import files


def test_audio_is_found_below_a_folder_in_order_and_nothing_else(tmp_path):
  for name in ('b/two.MP3', 'a.flac', 'b/.hidden.wav', '.trash/x.wav', 'c.m4a'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  (tmp_path / 'cover.jpg').touch()
  found = [path.as_posix() for path in audio_files.find(tmp_path)]
  assert found == ['a.flac', 'b/two.MP3', 'c.m4a']


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='no folder.*nowhere'):
    audio_files.find(tmp_path / 'nowhere')


@pytest.mark.parametrize('suffix', ['wav', 'flac', 'mp3', 'ogg'])
def test_a_file_is_read_at_its_own_rate_with_channels_averaged(
  tmp_path, suffix
):
  path = tmp_path / f'tone.{suffix}'
  files.write_tone(path)
  clip = audio_files.load(path, captions=['a tone'], facts={'hz': 211})
  assert clip.sample_rate_hz == files.RATE_HZ
  assert files.pitch_hz(clip) == pytest.approx(211, abs=1)
  assert np.abs(clip.waveform).max() == pytest.approx(0.25, abs=0.05)
  assert (clip.captions, clip.facts) == (('a tone',), {'hz': 211})


def test_a_part_of_a_file_is_that_part(tmp_path):
  files.write_tone(tmp_path / 'tone.wav')
  whole = audio_files.load(tmp_path / 'tone.wav').waveform
  part = audio_files.load(
    tmp_path / 'tone.wav', start_seconds=0.5, num_seconds=0.25
  )
  np.testing.assert_array_equal(part.waveform, whole[8000:12000])


def test_what_cannot_be_read_is_rejected_with_a_reason_and_its_path(tmp_path):
  (tmp_path / 'noise.wav').write_bytes(b'not audio' * 100)
  (tmp_path / 'none.mp3').touch()
  (tmp_path / 'song.m4a').touch()
  reasons = {
    'noise.wav': 'not audio',
    'none.mp3': 'empty',
    'song.m4a': 'unreadable',
    'gone.flac': 'missing',
  }
  for name, reason in reasons.items():
    with pytest.raises(sources.RejectedClip, match=name) as caught:
      audio_files.load(tmp_path / name)
    assert caught.value.reason == reason
