# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.audio import checks


def test_floats_pass_and_half_precision_becomes_float32():
  waveform = np.linspace(-1, 1, 14).reshape(2, 7)
  assert checks.require_waveform(waveform).dtype == np.float64
  for dtype in (np.float16, jnp.bfloat16):
    passed = checks.require_waveform(waveform.astype(dtype))
    assert passed.dtype == np.float32
    np.testing.assert_allclose(passed, waveform, atol=1e-2)
  assert checks.require_waveform([0.1, 0.2], axes='samples').shape == (2,)


@pytest.mark.parametrize(
  'waveform, message',
  [
    (np.zeros(7), r'\[batch, samples\] .* not \[7\]'),
    (np.zeros((2, 0)), r'at least one sample, not \[2, 0\]'),
    (np.zeros((2, 7), np.int16), 'floats in .*, not int16'),
    (np.full((2, 7), np.nan), 'NaN or infinite'),
    (np.full((2, 7), np.inf), 'NaN or infinite'),
  ],
)
def test_what_is_no_waveform_is_named(waveform, message):
  with pytest.raises(ValueError, match=message):
    checks.require_waveform(waveform)


@pytest.mark.parametrize('rate', [None, 0, -16_000, 16_000.0, True, '16000'])
def test_a_rate_is_a_whole_number_above_0(rate):
  assert checks.require_rate(np.int64(16_000)) == 16_000
  with pytest.raises(ValueError, match='says nothing of its rate'):
    checks.require_rate(rate)
