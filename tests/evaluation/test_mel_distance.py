# SPDX-License-Identifier: Apache-2.0
import librosa
import numpy as np
import pytest

from musiclm_jax.evaluation.mel_distance import mel_distance, mel_distances


def noise(num_samples=6007, seed=0):
  random = np.random.default_rng(seed)
  return (0.1 * random.standard_normal(num_samples)).astype(np.float32)


def reference_distance(reference, estimate, *, rate_hz):
  """The definition in float64, over librosa."""
  figures = []
  for window in (64, 128, 256, 512, 1024, 2048):
    hop = window // 4
    frames = -(-len(reference) // hop)
    before = (window - hop) // 2
    after = (frames - 1) * hop + window - len(reference) - before
    filters = librosa.filters.mel(
      sr=rate_hz, n_fft=window, n_mels=64, htk=True, norm=None, dtype=np.float64
    )
    filters = filters[filters.max(axis=1) > 0]
    hann = np.hanning(window + 1)[:-1]
    levels = []
    for waveform in (reference, estimate):
      padded = np.pad(waveform.astype(np.float64), (before, after))
      spectrum = librosa.stft(
        padded,
        n_fft=window,
        hop_length=hop,
        window='hann',
        center=False,
        dtype=np.complex128,
      )
      magnitude = np.abs(spectrum) / np.sqrt(np.sum(hann**2))
      levels.append(20 * np.log10(filters @ magnitude + 1e-5))
    assert levels[0].shape[1] == frames
    figures.append(np.mean(np.abs(levels[0] - levels[1])))
  return np.mean(figures)


@pytest.mark.filterwarnings('ignore:Empty filters')
def test_distance_is_the_definition_in_float64():
  reference, other = noise(), noise(seed=1)
  estimate = 0.5 * reference + 0.3 * other
  assert mel_distance(
    reference, estimate, sample_rate_hz=24_000
  ) == pytest.approx(
    reference_distance(reference, estimate, rate_hz=24_000), rel=1e-4
  )


def test_exact_copy_has_none_and_half_the_amplitude_six_decibels():
  waveform = noise()
  same = mel_distance(waveform, waveform, sample_rate_hz=24_000)
  assert same == 0
  half = mel_distance(waveform, waveform / 2, sample_rate_hz=24_000)
  assert half == pytest.approx(20 * np.log10(2), abs=0.02)


def test_what_16_bits_cannot_hold_hardly_counts():
  silence, waveform = np.zeros_like(noise()), noise()
  rounding = np.random.default_rng(1).uniform(-0.5, 0.5, 6007) / 2**15
  assert (
    mel_distance(
      waveform, waveform + rounding.astype(np.float32), sample_rate_hz=24_000
    )
    < 0.1
  )
  assert mel_distance(silence, waveform, sample_rate_hz=24_000) > 60


def test_distance_of_a_clip_does_not_depend_on_its_batch():
  reference = np.stack([noise(), noise(seed=2), noise(seed=3)])
  estimate = 0.7 * reference[::-1].copy()
  batch = mel_distances(reference, estimate, sample_rate_hz=24_000)
  one = mel_distance(reference[2], estimate[2], sample_rate_hz=24_000)
  assert batch.shape == (3,)
  assert float(batch[2]) == pytest.approx(one, rel=1e-5)


def test_unequal_lengths_are_an_error():
  with pytest.raises(ValueError, match='6007 samples and the estimate 6000'):
    mel_distance(noise(), noise()[:6000], sample_rate_hz=24_000)
