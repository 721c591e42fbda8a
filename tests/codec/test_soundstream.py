# SPDX-License-Identifier: Apache-2.0
import dataclasses
import fractions
import functools

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from musiclm_jax.codec import soundstream
from musiclm_jax.layers import convolution
from musiclm_jax.quantization import residual

KEY = jax.random.key(2)
HOP = 2 * 3


def config(**changes):
  return soundstream.SoundStreamConfig(
    **{
      'sample_rate_hz': 24_000,
      'channels': 5,
      'strides': (2, 3),
      'embed_dim': 7,
      'quantizer': residual.ResidualQuantizerConfig(
        num_levels=3, codebook_size=17, dead_code_threshold=0.0
      ),
      **changes,
    }
  )


def published(channels, embed_dim, *, strides=(3, 4, 5, 8), **changes):
  """A full-size config, with 12 x 1024 codes."""
  return config(
    channels=channels,
    embed_dim=embed_dim,
    strides=strides,
    quantizer=residual.ResidualQuantizerConfig(
      num_levels=12, codebook_size=1024
    ),
    **changes,
  )


def draw(batch=2, frames=31, seed=0, dtype=np.float32):
  generator = np.random.default_rng(seed)
  return generator.standard_normal((batch, frames * HOP)).astype(dtype)


@functools.cache
def built():
  """A module and its variables, its codebooks started on one batch."""
  module = soundstream.SoundStream(config())
  waveform = draw()
  variables = nn.unbox(jax.jit(module.init)(KEY, waveform, key=KEY))
  _, updates = train(module, variables, waveform)
  return module, {**variables, **updates}


@functools.partial(jax.jit, static_argnums=0)
def train(module, variables, waveform, sample_mask=None):
  return module.apply(
    variables,
    waveform,
    key=KEY,
    sample_mask=sample_mask,
    mutable=[residual.CODEBOOKS],
  )


@functools.partial(jax.jit, static_argnames=('module', 'method'))
def run(module, variables, inputs, *, method):
  return module.apply(variables, inputs, method=method)


@functools.partial(jax.jit, static_argnames=('module', 'method'))
def run_chunk(module, variables, inputs, *, method):
  return module.apply(
    variables, inputs, method=method, mutable=[convolution.HISTORY]
  )


def latents_of(module, waveform):
  return module.encoder(waveform)


def abstract(config):
  module = soundstream.SoundStream(config)
  waveform = jax.ShapeDtypeStruct((2, 5 * config.hop_samples), jnp.float32)
  return jax.eval_shape(
    lambda key, waveform: nn.unbox(module.init(key, waveform, key=key)),
    KEY,
    waveform,
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def by_hand(channels, embed_dim, strides):
  """Weights and biases of the block diagram of figure 3."""

  def conv(taps, channels_in, channels_out):
    return taps * channels_in * channels_out + channels_out

  def units(width):
    return 3 * (conv(7, width, width) + conv(1, width, width))

  encoder, decoder, width = conv(7, 1, channels), conv(7, channels, 1), channels
  for stride in strides:
    encoder += units(width) + conv(2 * stride, width, 2 * width)
    decoder += units(width) + conv(2 * stride, 2 * width, width)
    width *= 2
  encoder += conv(3, width, embed_dim)
  decoder += conv(7, embed_dim, width)
  return encoder, decoder


@pytest.mark.parametrize(
  'channels, embed_dim, strides, millions',
  (
    (16, 64, (2, 4, 5, 8), 2.46),  # The paper says 2.4 M,
    (32, 64, (2, 4, 5, 8), 9.51),  # and 8.4 M, which its figure does not give.
    (8, 64, (3, 4, 5, 8), 0.66),
    (16, 128, (3, 4, 5, 8), 2.63),
    (32, 256, (3, 4, 5, 8), 10.50),
  ),
)
def test_parameters_are_those_of_the_block_diagram(
  channels, embed_dim, strides, millions
):
  params = abstract(
    published(channels, embed_dim, strides=strides, weight_norm=False)
  )['params']
  encoder, decoder = by_hand(channels, embed_dim, strides)
  assert count(params['encoder']) == encoder
  assert count(params['decoder']) == decoder
  assert set(params) == {'encoder', 'decoder'}
  assert round((encoder + decoder) / 1e6, 2) == millions


def test_the_base_codec_makes_50_frames_a_second_of_12_levels():
  base = published(32, 256)
  assert base.hop_samples == 480
  assert base.stream.rate_hz == fractions.Fraction(50)
  assert base.stream.num_codebooks == 12
  assert base.stream.codebook_size == 1024
  module = soundstream.SoundStream(base)
  variables = abstract(base)
  second = jax.ShapeDtypeStruct((2, 24_000), jnp.float32)
  codes = jax.eval_shape(
    functools.partial(module.apply, method='encode'), variables, second
  )
  assert codes.shape == (2, 50, 12) and codes.dtype == jnp.int32
  coarse = jax.ShapeDtypeStruct((2, 50, 4), jnp.int32)
  waveform = jax.eval_shape(
    functools.partial(module.apply, method='decode'), variables, coarse
  )
  assert waveform.shape == (2, 24_000) and waveform.dtype == jnp.float32


def test_every_parameter_and_codebook_names_its_axes():
  module = soundstream.SoundStream(config())
  boxed = jax.eval_shape(
    lambda key: module.init(key, jnp.zeros((2, 5 * HOP)), key=key), KEY
  )
  leaves = jax.tree.leaves(
    boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
  )
  bare = [
    leaf for leaf in leaves if not isinstance(leaf, nn.LogicallyPartitioned)
  ]
  assert [leaf.shape for leaf in bare] == [()]  # Whether it has started.
  assert len(leaves) > 50


def test_the_encoder_does_not_see_the_future():
  module, variables = built()
  waveform = draw()
  changed = waveform.copy()
  changed[:, 17 * HOP :] = 0
  whole, cut = (
    run(module, variables, w, method=latents_of) for w in (waveform, changed)
  )
  np.testing.assert_array_equal(whole[:, :17], cut[:, :17])
  assert not np.allclose(whole[:, 17:], cut[:, 17:])  # The probe itself works.


def test_the_decoder_does_not_see_the_future():
  module, variables = built()
  codes = run(module, variables, draw(), method='encode')
  changed = codes.at[:, 17:].set(0)
  whole, cut = (
    run(module, variables, c, method='decode') for c in (codes, changed)
  )
  np.testing.assert_array_equal(whole[:, : 17 * HOP], cut[:, : 17 * HOP])
  assert not np.allclose(whole[:, 17 * HOP :], cut[:, 17 * HOP :])


def stream(module, variables, inputs, lengths, *, method, step):
  # Zeros from the start, so that a length is compiled once wherever it comes.
  _, state = jax.eval_shape(
    functools.partial(run_chunk, module, method=method),
    variables,
    inputs[:, :step],
  )
  state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
  chunks, start = [], 0
  for length in lengths:
    chunk, state = run_chunk(
      module,
      {**variables, **state},
      inputs[:, start * step : (start + length) * step],
      method=method,
    )
    chunks.append(chunk)
    start += length
  return np.concatenate(chunks, axis=1)


@hypothesis.settings(max_examples=3, deadline=None)
@hypothesis.given(st.permutations((1, 2, 13, 2, 13)))
def test_streaming_gives_the_whole(lengths):
  module, variables = built()
  waveform = draw()
  latents = stream(
    module, variables, waveform, lengths, method=latents_of, step=HOP
  )
  whole = run(module, variables, waveform, method=latents_of)
  np.testing.assert_allclose(latents, whole, atol=1e-5)
  decoded = stream(
    module, variables, whole, lengths, method='synthesize', step=1
  )
  np.testing.assert_allclose(
    decoded, run(module, variables, whole, method='synthesize'), atol=1e-5
  )


def test_training_reconstructs_what_the_kept_levels_decode_to():
  module, variables = built()
  waveform = draw()
  found, updates = train(module, variables, waveform)
  assert found.waveform.shape == waveform.shape
  assert set(updates) == {'codebooks'}
  decoded = run(module, variables, found.quantized.latents, method='synthesize')
  np.testing.assert_allclose(found.waveform, decoded, atol=1e-6)


def test_padding_leaves_no_trace_in_the_codebooks():
  module, variables = built()
  waveform = draw()
  mask = np.ones(waveform.shape, bool)
  mask[1, 19 * HOP - 2 :] = False
  spoilt = waveform.copy()
  spoilt[1, 19 * HOP :] = 7  # The frame before holds audio and counts.
  (_, one), (_, two) = (
    train(module, variables, w, mask) for w in (waveform, spoilt)
  )
  jax.tree.map(np.testing.assert_array_equal, one, two)
  _, without = train(module, variables, spoilt)
  assert not np.allclose(
    without['codebooks']['quantizer']['counts'],
    one['codebooks']['quantizer']['counts'],
  )


def test_a_frame_counts_if_it_holds_any_audio():
  mask = np.zeros((1, 4 * HOP), bool)
  mask[0, : HOP + 1] = True
  np.testing.assert_array_equal(
    soundstream.frames_with_audio(mask, hop_samples=HOP),
    [[True, True, False, False]],
  )


def test_gradients_reach_every_parameter():
  module, variables = built()

  def loss(params):
    found = module.apply({**variables, 'params': params}, draw(), key=KEY)
    return jnp.mean(found.waveform**2) + found.quantized.commitment.mean

  slopes = jax.jit(jax.grad(loss))(variables['params'])
  for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
    assert np.isfinite(slope).all(), path
    assert np.abs(slope).max() > 0, path


@pytest.mark.slow
def test_remat_changes_neither_parameters_nor_gradients():
  module, variables = built()
  again = soundstream.SoundStream(
    dataclasses.replace(module.config, remat=True)
  )
  waveform = draw()

  def loss(params, module):
    found = module.apply({**variables, 'params': params}, waveform, key=KEY)
    return jnp.mean(found.waveform**2)

  slopes, expected = (
    jax.jit(jax.grad(functools.partial(loss, module=m)))(variables['params'])
    for m in (again, module)
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-8),
    slopes,
    expected,
  )
  latents = stream(
    again, variables, waveform, (3, 28), method=latents_of, step=HOP
  )
  np.testing.assert_allclose(
    latents, run(module, variables, waveform, method=latents_of), atol=1e-5
  )


def test_float32_agrees_with_float64():
  module, variables = built()
  waveform = draw()
  single = run(module, variables, waveform, method=latents_of)
  with jax.enable_x64():
    wide = jax.tree.map(
      lambda leaf: leaf if leaf.dtype == bool else leaf.astype('float64'),
      variables,
    )
    double = soundstream.SoundStream(
      dataclasses.replace(module.config, dtype='float64', param_dtype='float64')
    )
    latents = run(double, wide, waveform.astype('float64'), method=latents_of)
    assert latents.dtype == jnp.float64
    codes = run(double, wide, waveform.astype('float64'), method='encode')
  np.testing.assert_allclose(single, latents, atol=1e-5)
  found = run(module, variables, waveform, method='encode')
  assert np.mean(found == codes) > 0.99


def test_bfloat16_computes_near_float32_and_gives_float32():
  module, variables = built()
  half = soundstream.SoundStream(
    dataclasses.replace(module.config, dtype='bfloat16')
  )
  codes = run(module, variables, draw(), method='encode')
  full = run(module, variables, codes, method='decode')
  found = run(half, variables, codes, method='decode')
  assert found.dtype == jnp.float32
  assert 0 < np.abs(found - full).max() < 0.1 * np.abs(full).max()


def test_a_waveform_of_broken_hops_is_an_error_that_says_which_length():
  module, variables = built()
  with pytest.raises(ValueError, match='pad it to 12'):
    module.apply(variables, np.zeros((1, 7), np.float32), method='encode')


def test_a_config_without_strides_is_refused():
  with pytest.raises(ValueError, match='strides'):
    config(strides=())
