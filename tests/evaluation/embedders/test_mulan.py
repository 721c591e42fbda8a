# SPDX-License-Identifier: Apache-2.0
import numpy as np

from musiclm_jax.checkpoints import bundle
from musiclm_jax.evaluation.embedders import base, mulan
from tests.conditioning import toys


def test_a_published_space_is_an_ear_that_reads(tmp_path):
  toys.publish_conditioner(tmp_path)
  ear = mulan.load(str(tmp_path))
  assert isinstance(ear, base.TextEmbedder)
  fingerprint = bundle.read_model_json(tmp_path)['fingerprint']
  assert ear.weights_sha256 == fingerprint
  assert ear.sample_rate_hz == toys.RATE_HZ and ear.window_seconds == 3
  found = ear.embed(toys.tone(2, seconds=5))
  assert found.shape == (3, ear.dim)  # At 0, 1 and 2 s.
  texts = ear.embed_text(['band 2', 'band 5'])
  cosines = found @ texts.T
  assert np.all(cosines[:, 0] > 0.9) and np.all(cosines[:, 1] < 0.3)
