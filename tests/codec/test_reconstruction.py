# SPDX-License-Identifier: Apache-2.0
import math

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.codec import reconstruction

RATE_HZ = 8000
CONFIG = reconstruction.MelDistanceConfig(windows=(64, 256), num_mels=11)


def _waveforms(samples=997):
  rng = np.random.default_rng(5)
  real, fake = 0.3 * rng.normal(size=(2, 2, samples))
  return real, fake


def _distance(real, fake, mask):
  return reconstruction.mel_distance(
    jnp.asarray(real),
    jnp.asarray(fake),
    sample_mask=jnp.asarray(mask),
    sample_rate_hz=RATE_HZ,
    config=CONFIG,
  )


def _mels(waveform, window):
  """From the definition, one frame and one filter at a time."""
  hop = window // 4
  frames = -(-len(waveform) // hop)
  before = (window - hop) // 2
  padded = np.pad(waveform, (before, window + hop))
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
  hann /= np.sqrt(np.sum(hann**2))
  top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
  edges = 700 * (10 ** (np.linspace(0, top, CONFIG.num_mels + 2) / 2595) - 1)
  hz = np.arange(window // 2 + 1) * RATE_HZ / window
  filters = [
    np.interp(hz, edges[i : i + 3], [0, 1, 0]) for i in range(CONFIG.num_mels)
  ]
  filters = [f for f in filters if f.any()]
  mels = np.empty((frames, len(filters)))
  for i in range(frames):
    magnitude = np.abs(np.fft.rfft(hann * padded[i * hop : i * hop + window]))
    mels[i] = [magnitude @ f for f in filters]
  return mels


def test_distance_is_the_papers_with_means_for_sums():
  real, fake = _waveforms()
  with jax.enable_x64():
    terms = _distance(real, fake, np.ones(real.shape, bool))
    means = {window: float(term.mean) for window, term in terms.items()}
  for window, mean in means.items():
    wanted = []
    for ours, theirs in zip(real, fake, strict=True):
      a, b = _mels(ours, window), _mels(theirs, window)
      logs = np.log(a + 1e-5) - np.log(b + 1e-5)
      alpha = math.sqrt(window / 2)
      wanted.append(
        np.abs(a - b).mean(axis=1) + alpha * np.sqrt((logs**2).mean(axis=1))
      )
    np.testing.assert_allclose(mean, np.mean(wanted), rtol=1e-9)


def test_frames_of_padding_do_not_count():
  real, fake = _waveforms(samples=1024)
  mask = np.arange(1024) < np.array([[1024], [512]])
  real, fake = real * mask, fake * mask
  masked = _distance(real, fake, mask)
  first = _distance(real[:1], fake[:1], mask[:1])
  # The window of 64 sees its own and the next hop beyond 512, no more.
  half = _distance(real[1:], fake[1:], mask[1:])
  np.testing.assert_allclose(
    masked[64].weight, first[64].weight + half[64].weight
  )
  assert float(half[64].weight) < float(first[64].weight) / 2 + 3
  np.testing.assert_allclose(
    masked[64].total, first[64].total + half[64].total, rtol=1e-5
  )


def test_gradient_is_finite_where_nothing_differs_and_in_silence():
  real, _ = _waveforms()
  real[1] = 0

  def total(fake):
    mask = np.ones(real.shape, bool)
    return sum(term.mean for term in _distance(real, fake, mask).values())

  value, gradient = jax.jit(jax.value_and_grad(total))(jnp.asarray(real))
  assert float(value) < 1e-3
  assert np.all(np.isfinite(gradient))
