# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax import test_util

from musiclm_jax.audio import spectral
from musiclm_jax.audio.framing import Padding
from musiclm_jax.audio.spectral import MelConfig


def noise(batch=2, num_samples=3001, seed=0):
  return np.random.default_rng(seed).standard_normal((batch, num_samples))


def reference_stft(waveform, *, window_samples, hop_samples):
  """librosa's frames without padding, our scale, float64."""
  spectrum = librosa.stft(
    waveform,
    n_fft=window_samples,
    hop_length=hop_samples,
    window='hann',
    center=False,
    dtype=np.complex128,
  )
  window = np.hanning(window_samples + 1)[:-1]
  return np.swapaxes(spectrum, -1, -2) / np.sqrt(np.sum(window**2))


def test_frames_are_as_written_by_hand():
  signal = jnp.arange(1, 8)[None]
  frames = spectral.frame_signal(
    signal, frame_samples=3, hop_samples=2, padding=Padding.VALID
  )
  assert frames.tolist() == [[[1, 2, 3], [3, 4, 5], [5, 6, 7]]]
  frames = spectral.frame_signal(
    signal, frame_samples=4, hop_samples=2, padding=Padding.SAME
  )
  assert frames.tolist() == [
    [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 0, 0]]
  ]
  frames = spectral.frame_signal(
    signal, frame_samples=5, hop_samples=3, padding=Padding.CAUSAL
  )
  assert frames.tolist() == [
    [[0, 0, 1, 2, 3], [2, 3, 4, 5, 6], [5, 6, 7, 0, 0]]
  ]


def test_causal_frames_do_not_see_beyond_their_hop():
  sizes = {'window_samples': 64, 'hop_samples': 16, 'padding': Padding.CAUSAL}
  waveform = noise(num_samples=160)
  cut = waveform.copy()
  cut[:, 16 * 7 :] = 0
  whole = spectral.stft(jnp.asarray(waveform), **sizes)
  cut = spectral.stft(jnp.asarray(cut), **sizes)
  np.testing.assert_array_equal(whole[:, :7], cut[:, :7])
  assert not np.allclose(whole[:, 7:], cut[:, 7:])


def test_too_short_a_clip_for_one_frame_is_an_error():
  with pytest.raises(ValueError, match='63 samples make no valid frame of 64'):
    spectral.stft(
      jnp.zeros((1, 63)),
      window_samples=64,
      hop_samples=16,
      padding=Padding.VALID,
    )


def test_mask_of_frames_covers_what_touches_the_clip():
  mask = jnp.arange(10)[None] < jnp.array([[5], [0]])
  frames = spectral.frame_mask(
    mask, frame_samples=4, hop_samples=2, padding=Padding.VALID
  )
  # Frames begin at 0, 2, 4 and 6; the clip's last sample is 4.
  assert frames.tolist() == [[True, True, True, False], [False] * 4]


@pytest.mark.parametrize(
  ('window', 'hop'), [(64, 16), (400, 160), (1024, 256), (31, 7)]
)
def test_stft_equals_librosa_in_float64(window, hop):
  waveform = noise()
  spectrum = spectral.stft(
    jnp.asarray(waveform, jnp.float32),
    window_samples=window,
    hop_samples=hop,
    padding=Padding.VALID,
  )
  expected = reference_stft(waveform, window_samples=window, hop_samples=hop)
  assert spectrum.dtype == jnp.complex64
  np.testing.assert_allclose(spectrum, expected, atol=3e-6)


def test_padded_stft_equals_librosa_over_zeros():
  waveform = noise(num_samples=1000)
  spectrum = spectral.stft(
    jnp.asarray(waveform, jnp.float32), window_samples=400, hop_samples=160
  )
  padded = np.pad(waveform, ((0, 0), (120, 400)))
  expected = reference_stft(padded, window_samples=400, hop_samples=160)
  assert spectrum.shape == (2, 7, 201)
  np.testing.assert_allclose(spectrum, expected[:, :7], atol=3e-6)


@pytest.mark.parametrize('size', [64, 31, 2048])
def test_product_with_the_dft_matrix_is_the_fft(size):
  frames = jnp.asarray(noise(num_samples=3 * size), jnp.float32)
  frames = frames.reshape(2, 3, size)
  expected = np.fft.rfft(np.asarray(frames, np.float64))
  scale = np.sqrt(size)
  np.testing.assert_allclose(
    spectral._dft(frames) / scale, expected / scale, atol=1e-5
  )


def spectrum_of(waveform):
  return spectral.stft(waveform, window_samples=64, hop_samples=16)


@pytest.mark.parametrize('platform', ['tpu', 'cuda'])
def test_accelerators_multiply_and_do_not_call_an_fft(platform):
  traced = jax.jit(spectrum_of).trace(jnp.zeros((8, 997)))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert 'stablehlo.dot_general' in text and 'stablehlo.fft' not in text
  assert 'stablehlo.fft' in traced.lower(lowering_platforms=('cpu',)).as_text()


def test_product_with_the_dft_matrix_stays_on_its_device():
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding = jax.NamedSharding(mesh, jax.P('data'))
  compiled = (
    jax.jit(spectral._dft, in_shardings=sharding, out_shardings=sharding)
    .lower(jnp.zeros((8, 31, 64)))
    .compile()
    .as_text()
  )
  assert ' dot(' in compiled and 'all-gather' not in compiled


def test_spectrum_is_the_same_over_a_mesh():
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding = jax.NamedSharding(mesh, jax.P('data'))
  waveform = jnp.asarray(noise(batch=8), jnp.float32)
  np.testing.assert_allclose(
    jax.jit(spectrum_of, in_shardings=sharding)(waveform),
    jax.jit(spectrum_of)(waveform),
    atol=1e-6,
  )


def test_stft_is_float64_under_x64_and_float32_from_bfloat16():
  sizes = {'window_samples': 64, 'hop_samples': 16}
  half = jnp.asarray(noise(), jnp.bfloat16)
  assert spectral.stft(half, **sizes).dtype == jnp.complex64
  with jax.enable_x64():
    double = spectral.stft(jnp.asarray(noise()), padding=Padding.VALID, **sizes)
    assert double.dtype == jnp.complex128
    np.testing.assert_allclose(
      double, reference_stft(noise(), **sizes), atol=1e-13
    )


@pytest.mark.parametrize('window', [64, 400, 2048])
def test_white_noise_has_magnitudes_of_mean_square_one_at_every_window(window):
  spectrum = spectral.stft(
    jnp.asarray(noise(num_samples=100_000), jnp.float32),
    window_samples=window,
    hop_samples=window // 4,
    padding=Padding.VALID,
  )
  inner = np.asarray(spectrum)[:, :, 2:-2]
  assert np.mean(np.abs(inner) ** 2) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
  ('rate', 'window', 'mels', 'low', 'high'),
  [
    (24_000, 2048, 64, 0.0, 12_000.0),
    (16_000, 400, 80, 0.0, 8_000.0),
    (16_000, 400, 64, 125.0, 7_500.0),
  ],
)
def test_mel_filters_equal_librosa(rate, window, mels, low, high):
  filters = spectral.mel_filterbank(
    sample_rate_hz=rate,
    window_samples=window,
    num_mels=mels,
    low_hz=low,
    high_hz=high,
  )
  expected = librosa.filters.mel(
    sr=rate,
    n_fft=window,
    n_mels=mels,
    fmin=low,
    fmax=high,
    htk=True,
    norm=None,
    dtype=np.float64,
  )
  np.testing.assert_allclose(filters, expected.T, atol=1e-9)


def test_filters_without_a_bin_are_left_out_and_no_others():
  sizes = {'sample_rate_hz': 24_000, 'num_mels': 64}
  kept = {
    window: MelConfig(
      window_samples=window, hop_samples=window // 4, **sizes
    ).num_filters
    for window in (64, 128, 256, 512, 1024, 2048)
  }
  assert kept == {64: 42, 128: 54, 256: 62, 512: 64, 1024: 64, 2048: 64}
  config = MelConfig(window_samples=64, hop_samples=16, **sizes)
  assert (config.filters.max(axis=0) > 0).all()
  # Every bin from the first filter's centre to the last's has full weight.
  np.testing.assert_allclose(config.filters.sum(axis=1)[1:30], 1)


def test_log_mel_equals_a_float64_reference():
  config = MelConfig(
    sample_rate_hz=16_000, window_samples=400, hop_samples=160, num_mels=80
  )
  waveform = 0.1 * noise(num_samples=1600)
  result = spectral.log_mel(jnp.asarray(waveform, jnp.float32), config=config)
  padded = np.pad(waveform, ((0, 0), (120, 120)))
  magnitude = np.abs(
    reference_stft(padded, window_samples=400, hop_samples=160)
  )
  filters = librosa.filters.mel(
    sr=16_000, n_fft=400, n_mels=80, htk=True, norm=None, dtype=np.float64
  )
  expected = np.log(magnitude @ filters.T + 1e-5)
  assert result.shape == (2, config.num_frames(1600), 80) == (2, 10, 80)
  np.testing.assert_allclose(result, expected, atol=1e-4)


def test_tone_is_loudest_in_the_filter_around_its_pitch():
  config = MelConfig(
    sample_rate_hz=24_000, window_samples=2048, hop_samples=512, num_mels=64
  )
  centres = np.argmax(config.filters, axis=0) * 24_000 / 2048
  for mel in (20, 41, 60):
    tone = np.sin(2 * np.pi * centres[mel] * np.arange(8192) / 24_000)
    result = spectral.mel_spectrogram(
      jnp.asarray(tone[None], jnp.float32), config=config
    )
    assert int(np.argmax(np.asarray(result)[0, 8])) == mel


@pytest.mark.parametrize('scale', [0.0, 1e-30, 1e-20, 1e-3, 1.0])
@pytest.mark.parametrize('window', [64, 2048])
def test_gradient_is_finite_at_and_near_silence(scale, window):
  config = MelConfig(
    sample_rate_hz=24_000,
    window_samples=window,
    hop_samples=window // 4,
    num_mels=64,
  )
  waveform = jnp.asarray(scale * noise(batch=1, num_samples=4096), jnp.float32)
  gradient = jax.grad(lambda w: spectral.log_mel(w, config=config).sum())(
    waveform
  )
  assert np.isfinite(gradient).all()
  if scale == 1:
    assert np.abs(gradient).max() > 0


def test_gradient_of_log_mel_is_that_of_finite_differences():
  config = MelConfig(
    sample_rate_hz=24_000, window_samples=64, hop_samples=16, num_mels=13
  )
  with jax.enable_x64():
    waveform = jnp.asarray(noise(batch=1, num_samples=97))
    test_util.check_grads(
      lambda w: spectral.log_mel(w, config=config),
      (waveform,),
      order=1,
      modes=('rev',),
      atol=1e-6,
      rtol=1e-6,
    )


def test_mel_band_beyond_the_sample_rate_is_an_error():
  with pytest.raises(ValueError, match='0 to 9000.0 Hz at 16000 Hz'):
    MelConfig(
      sample_rate_hz=16_000,
      window_samples=400,
      hop_samples=160,
      num_mels=80,
      high_hz=9000.0,
    )
