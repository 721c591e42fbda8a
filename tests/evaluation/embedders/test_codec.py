# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.checkpoints import bundle
from musiclm_jax.codec import soundstream
from musiclm_jax.evaluation.embedders import codec
from musiclm_jax.quantization import residual
from tests.evaluation import toy_codec

CONFIG = soundstream.SoundStreamConfig(
  sample_rate_hz=200,
  channels=5,
  strides=(2, 3),
  embed_dim=7,
  quantizer=residual.ResidualQuantizerConfig(num_levels=2, codebook_size=11),
)


@pytest.mark.slow
def test_a_second_is_the_mean_of_what_its_codes_stand_for(tmp_path):
  waveform = np.zeros((1, CONFIG.hop_samples), np.float32)
  boxed = jax.jit(soundstream.SoundStream(CONFIG).init)(
    jax.random.key(0), waveform, key=jax.random.key(1)
  )
  weights = nn.unbox(boxed)
  contents = bundle.BundleContents(
    kind='codec', config=CONFIG, weights=weights, stream_out=CONFIG.stream
  )
  fingerprint = bundle.publish(tmp_path, contents)
  ear = codec.load(str(tmp_path))
  assert ear.weights_sha256 == fingerprint and ear.dim == 7
  assert ear.window_seconds == 33 * 6 / 200  # The whole frames in a second.

  draw = np.random.default_rng(0)
  clip = draw.uniform(-1, 1, 3 * 198 + 50).astype(np.float32)
  found = ear.embed(clip)
  model = CONFIG.make_codec(weights, stream=CONFIG.stream)
  codes = np.asarray(model.encode(clip[None], sample_rate_hz=200))[0]
  tables = np.asarray(
    soundstream.SoundStream(CONFIG).apply(
      weights, codes[None], method='dequantize'
    )
  )[0]
  wanted = tables[: 3 * 33].reshape(3, 33, 7).mean(axis=1)
  assert found.shape == (3, 7) and np.ptp(wanted) > 0
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert ear.embed(clip[:50]).shape == (1, 7)


def test_a_codec_without_latents_is_an_error(tmp_path):
  toy_codec.publish(tmp_path)
  with pytest.raises(ValueError, match='ToyConfig.*give a SoundStream'):
    codec.load(str(tmp_path))
