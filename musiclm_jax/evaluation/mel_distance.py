# SPDX-License-Identifier: Apache-2.0
"""Mel distance: how far a copy is from its original in spectrum, in decibels.

The scales are those of SoundStream's reconstruction loss (Zeghidour et al.,
2021, section III-E): windows of 2**6 to 2**11 samples, hops of a quarter, 64
mels. What is averaged, and the floor, are ours and are stated below.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from musiclm_jax.array_types import Array, Waveform
from musiclm_jax.audio import spectral

WINDOWS_SAMPLES = (64, 128, 256, 512, 1024, 2048)
NUM_MELS = 64


def mel_distance(
  reference: Float[np.ndarray, ' samples'],
  estimate: Float[np.ndarray, ' estimated'],
  *,
  sample_rate_hz: int,
) -> float:
  """Mean absolute difference of log-mel spectra of one clip, in dB.

  See `mel_distances`. One program is compiled for each length.
  """
  if reference.shape != estimate.shape:
    raise ValueError(
      f'The reference has {reference.size} samples and the estimate'
      f' {estimate.size}; cut them to one length.'
    )
  distances = mel_distances(
    reference[None], estimate[None], sample_rate_hz=sample_rate_hz
  )
  return float(distances[0])


@functools.partial(jax.jit, static_argnames='sample_rate_hz')
def mel_distances(
  reference: Waveform, estimate: Waveform, *, sample_rate_hz: int
) -> Float[Array, ' batch']:
  """Mean absolute difference of log-mel spectra of each clip, in dB.

  At each of six window lengths: |20 log10(M + f) - 20 log10(N + f)|, where M and
  N are the mel magnitudes of `spectral.mel_spectrogram` and f is `MelConfig`'s
  floor (about the rounding noise of 16 bits, so that what 16 bits cannot hold
  does not count); the mean over all frames, zeros beyond the clip's ends, and
  over those of the 64 mels that hold a bin of the DFT. The figure is the plain
  mean of the six. 0 for an exact copy; a copy that is 6 dB quieter and clear of
  the floor has 6.
  """
  total = jnp.zeros(reference.shape[0])
  for window_samples in WINDOWS_SAMPLES:
    config = spectral.MelConfig(
      sample_rate_hz=sample_rate_hz,
      window_samples=window_samples,
      hop_samples=window_samples // 4,
      num_mels=NUM_MELS,
    )
    difference = spectral.log_mel(reference, config=config)
    difference -= spectral.log_mel(estimate, config=config)
    total += jnp.mean(jnp.abs(difference), axis=(1, 2))
  decibels = 20 / math.log(10)  # from natural logarithms of magnitudes
  return decibels * total / len(WINDOWS_SAMPLES)
