# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile

from musiclm_jax.evaluation import clips


def _write(path, *, rate_hz: int, channels: int = 1, seconds: float = 0.5):
  path.parent.mkdir(exist_ok=True)
  draw = np.random.default_rng(0)
  samples = draw.uniform(-0.5, 0.5, (round(seconds * rate_hz), channels))
  soundfile.write(path, samples, rate_hz)
  return samples


def test_files_of_other_systems_are_read_as_they_came(tmp_path):
  stereo = _write(tmp_path / 'b.wav', rate_hz=44_100, channels=2)
  _write(tmp_path / 'a.FLAC', rate_hz=22_050)
  _write(tmp_path / 'more' / 'c.ogg', rate_hz=48_000, seconds=0.7)
  found = list(clips.read(tmp_path))
  assert [clip.name for clip in found] == ['a.FLAC', 'b.wav', 'more/c.ogg']
  assert [clip.sample_rate_hz for clip in found] == [22_050, 44_100, 48_000]
  assert [clip.num_channels for clip in found] == [1, 2, 1]
  np.testing.assert_allclose(
    found[1].waveform, stereo.mean(axis=1), atol=2**-14
  )
  assert found[2].waveform.size == round(0.7 * 48_000)


def test_a_bad_file_is_named_and_does_not_stop_the_others(tmp_path):
  _write(tmp_path / 'good.wav', rate_hz=8_000)
  (tmp_path / 'broken.wav').write_bytes(b'not audio at all')
  (tmp_path / 'empty.flac').write_bytes(b'')
  bad, empty, good = clips.read(tmp_path)
  assert isinstance(good, clips.Clip)
  assert bad.name == 'broken.wav' and 'not audio' in bad.reason
  assert empty.name == 'empty.flac' and 'empty' in empty.reason


def test_hidden_files_and_other_kinds_are_passed_over(tmp_path):
  _write(tmp_path / '.1.wav', rate_hz=8_000)
  (tmp_path / 'generate.json').write_text('{}')
  with pytest.raises(ValueError, match='holds no audio'):
    clips.files_of(tmp_path)
  with pytest.raises(ValueError, match='no folder'):
    clips.files_of(tmp_path / 'absent')


def test_pairs_are_of_one_name_whatever_the_suffix():
  found = clips.pairs_of(
    ['a.wav', 'b.wav', 'x/c.wav'], ['x/c.flac', 'd.wav', 'a.mp3']
  )
  assert found == [(0, 2), (2, 0)]
  assert clips.pairs_of(['a.1', 'a.2'], ['a.2.wav']) == [(1, 0)]
