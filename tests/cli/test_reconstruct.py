# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from musiclm_jax.audio import io
from musiclm_jax.checkpoints import bundle
from musiclm_jax.cli import flags, reconstruct
from musiclm_jax.codec import base, soundstream
from musiclm_jax.quantization import residual

RATE = 1200


@pytest.fixture
def model(tmp_path):
  config = soundstream.SoundStreamConfig(
    sample_rate_hz=RATE,
    channels=5,
    strides=(2, 3),
    embed_dim=7,
    quantizer=residual.ResidualQuantizerConfig(num_levels=3, codebook_size=16),
  )
  key = jax.random.key(0)
  variables = jax.jit(soundstream.SoundStream(config).init)(
    key, np.zeros((1, 30), np.float32), key=key
  )
  bundle.publish(
    tmp_path / 'model',
    bundle.BundleContents(
      kind='codec', config=config, weights=variables, stream_out=config.stream
    ),
  )
  return tmp_path / 'model'


def test_a_file_at_another_rate_comes_out_as_long_at_the_codecs(
  model, tmp_path, capsys
):
  source, target = tmp_path / 'in.wav', tmp_path / 'out.wav'
  tone = 0.5 * np.sin(np.arange(1103) / 7).astype(np.float32)
  io.write(source, tone, sample_rate_hz=2 * RATE)
  reconstruct.main(
    ['--model', str(model), str(source), str(target), '--levels', '2']
  )
  written = io.read(target)
  heard = io.read(source, sample_rate_hz=RATE).waveform
  assert written.sample_rate_hz == RATE
  assert written.waveform.shape == heard.shape == (552,)
  codec = base.load_codec(model)
  codes = codec.encode(heard[None], sample_rate_hz=RATE, num_levels=2)
  np.testing.assert_allclose(
    written.waveform, codec.decode(codes)[0, :552], atol=2**-15
  )
  # 200 frames a second of 2 levels of 4 bits.
  assert '0.46 s through 92 frames of 2 levels, 1.6 kbps' in (
    capsys.readouterr().out
  )


def test_levels_that_the_codec_lacks_are_an_error(model, tmp_path):
  source = tmp_path / 'in.wav'
  io.write(source, np.zeros(101, np.float32), sample_rate_hz=RATE)
  with pytest.raises(ValueError, match='has 3 levels, not 4'):
    reconstruct.main(
      ['--model', str(model), str(source), 'out.wav', '--levels', '4']
    )


def test_a_missing_file_is_an_error_that_names_it(model):
  with pytest.raises(ValueError, match='nowhere.wav'):
    reconstruct.main(['--model', str(model), 'nowhere.wav', 'out.wav'])


def test_the_model_is_required():
  with pytest.raises(flags.UsageError, match='--model'):
    reconstruct.main(['in.wav', 'out.wav'])
