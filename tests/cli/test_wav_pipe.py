# SPDX-License-Identifier: Apache-2.0
import os
import threading

import numpy as np
import pytest
import soundfile

from musiclm_jax.audio import io
from musiclm_jax.cli import wav_pipe

WAVEFORM = np.asarray([0.0, 0.3, -0.3, 1e-3, -1.0, 1.5, -1.5], np.float32)


def test_a_part_is_heard_at_once():
  out, into = os.pipe()
  with open(into, 'wb') as file:
    write = wav_pipe.begin(file, sample_rate_hz=7919, num_samples=7)
    write(WAVEFORM[:2])
    assert len(os.read(out, 1000)) == 44 + 2 * 2
  os.close(out)


def test_the_parts_are_the_wav_of_the_whole(tmp_path):
  with open(tmp_path / 'parts.wav', 'wb') as file:
    write = wav_pipe.begin(file, sample_rate_hz=7919, num_samples=7)
    for part in np.split(WAVEFORM, [2, 5]):
      write(part)
  io.write(tmp_path / 'whole.wav', WAVEFORM, sample_rate_hz=7919)
  heard, whole = (
    soundfile.read(tmp_path / name, dtype='int16')
    for name in ('parts.wav', 'whole.wav')
  )
  assert heard[1] == whole[1] == 7919
  np.testing.assert_array_equal(heard[0], whole[0])
  assert heard[0].max() == 2**15 - 1


def test_nobody_waits_for_the_player_until_all_parts_are_there():
  plays, played = threading.Event(), []

  def write(part):
    plays.wait(10)
    played.append(part)

  with wav_pipe.in_background(write) as later:
    for part in (WAVEFORM[:2], WAVEFORM[2:]):
      later(part)
    assert not played
    plays.set()
  np.testing.assert_array_equal(np.concatenate(played), WAVEFORM)


def test_a_player_that_goes_away_is_told_when_all_is_made():
  def write(part):
    raise BrokenPipeError

  made = []
  with pytest.raises(BrokenPipeError), wav_pipe.in_background(write) as later:
    for part in (WAVEFORM[:2], WAVEFORM[2:]):
      later(part)
      made.append(part)
  assert len(made) == 2
