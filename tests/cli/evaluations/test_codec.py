# SPDX-License-Identifier: Apache-2.0
"""A published codec and a corpus on disk become a table and a picture."""

import dataclasses
import json

import numpy as np
import pytest

from musiclm_jax.cli import evaluate, flags
from musiclm_jax.cli.evaluations import codec
from musiclm_jax.data import corpus, sources, writer
from tests.evaluation import toy_codec

RATE_HZ = 24_000
NUM_TEST = 7  # Of 3 s, and one of 1 s.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tones:
  """Clip n is a tone of (n + 1) × 100 Hz; all of them are held out."""

  name: str = 'tones'

  def clips(self):
    return [
      sources.ClipRef(id=str(n), split='test', group=str(n))
      for n in range(NUM_TEST + 1)
    ]

  def load(self, ref):
    n = int(ref.id)
    time = np.arange((1 if n == NUM_TEST else 3) * RATE_HZ) / RATE_HZ
    tone = 0.5 * np.sin(2 * np.pi * (n + 1) * 100 * time)
    return sources.Clip(
      waveform=tone.astype(np.float32),
      sample_rate_hz=RATE_HZ,
      captions=(),
      facts={},
    )


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  directory = tmp_path_factory.mktemp('model')
  toy_codec.publish(directory)
  return directory


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp('corpus')
  writer.write_corpus(
    Tones(),
    directory,
    sample_rate_hz=RATE_HZ,
    num_workers=0,
    show_progress=False,
  )
  return directory


def run(model, prepared, output, *more):
  evaluate.main(
    [
      'codec',
      f'--model={model}',
      f'--corpus={prepared}',
      f'--output={output}',
      '--metrics=mel_distance_db,si_sdr_db',
      '--seconds=2',
      *more,
    ]
  )


def test_a_silent_stretch_is_named_before_anything_is_copied(prepared):
  class Muted(corpus.AudioCorpus):
    def waveform(self, clip):
      found = super().waveform(clip)
      return found if self.describe(clip).id != '2' else 0 * found + 0.5

  options = {'split': 'test', 'seconds': 2, 'sample_rate_hz': RATE_HZ}
  with pytest.raises(ValueError, match="The middle 2 s of '2' are silent"):
    codec.held_out_clips(Muted(prepared), num_clips=NUM_TEST, **options)
  assert len(codec.held_out_clips(Muted(prepared), num_clips=2, **options)) == 2


def test_tables_figures_and_a_picture_are_written(
  model, prepared, tmp_path, capsys
):
  run(
    model,
    prepared,
    tmp_path,
    *('--num_clips=3', '--levels=1,2,3', '--opus_kbps=6,24'),
  )
  text = (tmp_path / 'codec.md').read_text()
  assert text in capsys.readouterr().out
  for row in ('codec, 1 level ', 'codec, 3 levels', 'Opus, 6 kbps', 'Opus, 24'):
    assert f'| {row}' in text
  fields = json.loads((tmp_path / 'codec.json').read_text())
  assert (fields['num_clips'], fields['seconds']) == (3, 6.0)
  assert set(fields['systems'][0]['figures']) == {
    'mel_distance_db',
    'si_sdr_db',
  }
  assert (tmp_path / 'codec.png').read_bytes().startswith(b'\x89PNG')
  heard = {path.name for path in (tmp_path / 'audio').iterdir()}
  assert {'original.wav', 'codec_3_levels.wav', 'Opus_6_kbps.wav'} <= heard


def pitch_hz(waveform):
  return int(np.argmax(np.abs(np.fft.rfft(waveform)))) / waveform.size * RATE_HZ


def test_clips_are_middles_of_pieces_spread_over_the_split(prepared):
  pieces = corpus.AudioCorpus(prepared)
  clips = codec.held_out_clips(
    pieces, split='test', num_clips=3, seconds=2, sample_rate_hz=RATE_HZ
  )
  # Of seven long enough: numbers 0, 2 and 4; the short one never.
  assert [pitch_hz(clip) for clip in clips] == [100, 300, 500]
  np.testing.assert_array_equal(
    clips[1], pieces.waveform(2)[RATE_HZ // 2 : RATE_HZ // 2 + 2 * RATE_HZ]
  )


def held_out(prepared, **changes):
  asked = {
    'split': 'test',
    'num_clips': 3,
    'seconds': 2,
    'sample_rate_hz': RATE_HZ,
  }
  return codec.held_out_clips(corpus.AudioCorpus(prepared), **(asked | changes))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'num_clips': 8}, "8 clips of 2 s are wanted; split 'test' has 7 pieces"),
    ({'num_clips': 0}, '0 clips of 2 s'),
    ({'seconds': 5}, 'has 0 pieces of that length'),
    ({'split': 'validation'}, "no split 'validation'"),
    ({'sample_rate_hz': 16_000}, 'takes 16000 Hz, but the corpus is at 24000'),
  ],
)
def test_what_cannot_be_had_is_named(prepared, changes, message):
  with pytest.raises(ValueError, match=message):
    held_out(prepared, **changes)


def test_a_misspelt_metric_is_named_with_the_nearest(model, prepared, tmp_path):
  with pytest.raises(
    flags.UsageError, match="'mel_distanc'.*'mel_distance_db'"
  ):
    run(model, prepared, tmp_path, '--metrics=mel_distanc')


def test_a_folder_without_a_bundle_is_named(prepared, tmp_path):
  with pytest.raises(ValueError, match='is not a bundle'):
    run(tmp_path, prepared, tmp_path)


def test_a_list_that_holds_no_numbers_is_a_wrong_command(
  model, prepared, tmp_path
):
  with pytest.raises(flags.UsageError, match='--levels'):
    run(model, prepared, tmp_path, '--levels=many')
