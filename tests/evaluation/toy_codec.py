# SPDX-License-Identifier: Apache-2.0
"""A codec whose every figure can be worked out by hand."""

import dataclasses
import fractions

import numpy as np

from musiclm_jax.checkpoints import bundle
from musiclm_jax.streams import TokenStream

CODEBOOK_SIZE = 5
NUM_LEVELS = 3


class ToyCodec:
  """Rounds each sample, and its rounding error, and that one's, to 1 of 5.

  Level q rounds to multiples of 0.4 / 5**q; levels 0..k-1 are therefore off by
  0.2 / 5**(k-1) at most. One frame a sample, at `sample_rate_hz`.
  """

  sample_rate_hz = 24_000
  hop_samples = 1
  stream = TokenStream(
    name='acoustic',
    rate_hz=fractions.Fraction(24_000),
    num_codebooks=NUM_LEVELS,
    codebook_size=CODEBOOK_SIZE,
  )

  def encode(self, waveform, *, sample_rate_hz, num_levels=None):
    assert sample_rate_hz == self.sample_rate_hz
    residual, codes = np.asarray(waveform, np.float64), []
    for level in range(num_levels or NUM_LEVELS):
      step = 0.4 / CODEBOOK_SIZE**level
      code = np.clip(np.round(residual / step) + 2, 0, CODEBOOK_SIZE - 1)
      residual = residual - (code - 2) * step
      codes.append(code.astype(np.int32))
    return np.stack(codes, axis=-1)

  def decode(self, codes):
    steps = 0.4 / CODEBOOK_SIZE ** np.arange(codes.shape[-1])
    return np.sum((codes - 2) * steps, axis=-1).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
  """So that the codec can be published, and loaded by its name alone."""

  def make_codec(self, weights, *, stream):
    assert weights and stream.fingerprint
    return ToyCodec()


def publish(directory):
  contents = bundle.BundleContents(
    kind='codec',
    config=ToyConfig(),
    weights={'params': {'unused': np.zeros(3)}},
    stream_out=ToyCodec.stream,
  )
  return bundle.publish(directory, contents)
